"""The network in Lava: a source of images, synapses, neurons, and a sink that counts spikes.

Each process has two models, integers (``fixed_pt``) and floating point.
"""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from ltgate.fixed_point import DECAY_ONE, MEMBRANE_LIMIT
from ltgate.loihi.lava_backend import arithmetic

FIXED, FLOAT = ("fixed_pt", "bit_accurate_loihi"), ("floating_pt",)
_KINDS = (PyInPort.VEC_DENSE, PyOutPort.VEC_DENSE, np.ndarray)
IN, OUT, STATE = (LavaPyType(kind, np.int32, precision=24) for kind in _KINDS)
FLOAT_IN, FLOAT_OUT, FLOAT_STATE = (LavaPyType(kind, float) for kind in _KINDS)


def model(process, tags):
    """Decorator of a class that models ``process`` on CPUs."""

    def mark(cls):
        return implements(proc=process, protocol=LoihiProtocol)(requires(CPU)(tag(*tags)(cls)))

    return mark


class FrameSource(AbstractProcess):
    """Sends drive[t] x image, or its change since the step before; one image a sample, no frames.

    Args:
        images: [samples, ...], integers such as [samples, batch, height, width, channels].
        drive: Integers [T].
        differences: Send changes only; the first layer's neurons hold the current.

    Port: ``s_out``, of one sample's shape. After the last sample it sends zeros.
    """

    def __init__(self, *, images, drive, differences=False, **options) -> None:
        super().__init__(images=images, drive=drive, differences=differences, **options)
        self.s_out = OutPort(shape=images.shape[1:])


class _Frames(PyLoihiProcessModel):
    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.p = proc_params
        drive = np.asarray(self.p["drive"], np.int64)
        self.level = np.diff(drive, prepend=0) if self.p["differences"] else drive

    def run_spk(self) -> None:
        """One step."""
        sample, t = divmod(self.time_step - 1, len(self.level))
        images = self.p["images"]
        shown = images[sample] if sample < len(images) else np.zeros_like(images[0])
        self.s_out.send(shown.astype(self.kind) * self.kind(self.level[t]))


@model(FrameSource, FIXED)
class PyFrameSourceFixed(_Frames):
    """Integers."""

    s_out: PyOutPort = OUT
    kind = np.int32


@model(FrameSource, FLOAT)
class PyFrameSourceFloat(_Frames):
    """Floating point."""

    s_out: PyOutPort = FLOAT_OUT
    kind = np.float64


class EventConv(AbstractProcess):
    """Synapses of one layer, all compartments, event-driven: work in proportion to what arrives.

    Spikes or signed graded messages go in.

    Args:
        weight: Integers [kernel height, kernel width, in, K x out].
        stride, padding: Of the convolution; a dense layer's kernel covers its input.
        in_shape: (batch, height, width, in).
        out_shape: (batch, height, width, K x out).

    Ports: ``s_in``, ``a_out``. What arrives in a step is sent in the next one.
    """

    def __init__(self, *, weight, stride, padding, in_shape, out_shape, **options) -> None:
        super().__init__(
            weight=weight, stride=stride, padding=padding, in_shape=in_shape,
            out_shape=out_shape, **options,
        )  # fmt: skip
        self.s_in = InPort(shape=in_shape)
        self.a_out = OutPort(shape=out_shape)


class _Synapses(PyLoihiProcessModel):
    """Both models: they differ in the type of a number."""

    kind: type

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.p = proc_params
        self.weight = np.ascontiguousarray(self.p["weight"], self.kind)
        self.total = np.zeros(self.p["out_shape"], self.kind)

    def run_spk(self) -> None:
        """One step."""
        self.a_out.send(self.total)
        arithmetic.scatter(
            self.s_in.recv(), self.weight, self.p["stride"], self.p["padding"], self.total
        )


@model(EventConv, FIXED)
class PyEventConvFixed(_Synapses):
    """Integers."""

    s_in: PyInPort = IN
    a_out: PyOutPort = OUT
    kind = np.int32


@model(EventConv, FLOAT)
class PyEventConvFloat(_Synapses):
    """Floating point."""

    s_in: PyInPort = FLOAT_IN
    a_out: PyOutPort = FLOAT_OUT
    kind = np.float64


class LTGate(AbstractProcess):
    """Neurons of one layer; see :mod:`ltgate.loihi.quantnet` for the equation.

    Args:
        shape: (..., out).
        decay: 12-bit d, [K].
        exponent: e, [K].
        threshold: theta, [K, out] or [1, out].
        gate: g, [out].
        blend, subtract: ``blended`` and ``subtracts`` of the network.
        held: Whether input is a change of a current that stays until the reset.
        interval: Steps of a sample; before each, state is cleared. 0: never.
        offset: Lava's steps before the first sample's first input arrives.
        limit: Where membranes saturate.

    Ports: ``a_in`` (..., K x out), fast compartment first; ``s_out`` (..., out), 0 or 1.
    """

    def __init__(
        self, *, shape, decay, exponent, threshold, gate, blend=False, subtract=True,
        held=False, interval=0, offset=0, limit=MEMBRANE_LIMIT, **options,
    ) -> None:  # fmt: skip
        super().__init__(
            shape=shape, decay=decay, exponent=exponent, threshold=threshold, gate=gate,
            blend=blend, subtract=subtract, held=held, interval=interval, offset=offset,
            limit=limit, **options,
        )  # fmt: skip
        state = (*shape[:-1], len(decay) * shape[-1])
        self.a_in = InPort(shape=state)
        self.s_out = OutPort(shape=shape)
        self.v = Var(shape=state, init=0)
        self.current = Var(shape=state, init=0)


class _Neurons(PyLoihiProcessModel):
    """What both models share: the reset between samples and the held input."""

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        p = self.p = proc_params
        self.keep = DECAY_ONE - np.asarray(p["decay"], np.int64)

    def received(self) -> np.ndarray:
        """The step's current, after a reset where a sample begins."""
        arriving = self.a_in.recv()
        since = self.time_step - 1 - self.p["offset"]
        if self.p["interval"] and since >= 0 and since % self.p["interval"] == 0:
            self.v[:] = 0
            self.current[:] = 0
        if self.p["held"]:
            self.current += arriving
            return self.current
        return arriving


@model(LTGate, FIXED)
class PyLTGateFixed(_Neurons):
    """24-bit membranes, 12-bit decays: the twin's arithmetic."""

    a_in: PyInPort = IN
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int8, precision=1)
    v: np.ndarray = STATE
    current: np.ndarray = STATE

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.exponent = np.asarray(self.p["exponent"], np.int64)
        self.theta = np.ascontiguousarray(self.p["threshold"], np.int64)
        self.gate = np.ascontiguousarray(self.p["gate"], np.int64)
        self.spikes = np.zeros(self.p["shape"], np.int8)

    def run_spk(self) -> None:
        """One step."""
        charge, lanes = self.received(), self.v.shape[-1]
        arithmetic.advance(
            self.v.reshape(-1, lanes), charge.reshape(-1, lanes), self.keep, self.exponent,
            self.theta, self.gate, self.p["blend"], self.p["subtract"], self.p["limit"],
            self.spikes.reshape(-1, len(self.gate)),
        )  # fmt: skip
        self.s_out.send(self.spikes)


@model(LTGate, FLOAT)
class PyLTGateFloat(_Neurons):
    """The same equation in floating point: nothing is rounded and nothing saturates."""

    a_in: PyInPort = FLOAT_IN
    s_out: PyOutPort = FLOAT_OUT
    v: np.ndarray = FLOAT_STATE
    current: np.ndarray = FLOAT_STATE

    def run_spk(self) -> None:
        """One step."""
        shape = (*self.p["shape"][:-1], len(self.keep), -1)
        lane = (-1, 1)
        theta = np.asarray(self.p["threshold"], float)
        charge = self.received().reshape(shape)
        v = self.v.reshape(shape) * (self.keep / DECAY_ONE).reshape(lane)
        v = v + charge * 2.0 ** np.asarray(self.p["exponent"], float).reshape(lane)
        if self.p["blend"]:
            share = np.asarray(self.p["gate"]) / 128
            blended = share * v[..., 0, :] + (1 - share) * v[..., 1, :]
            crossed = np.repeat((blended >= theta[0])[..., None, :], 2, axis=-2)
        else:
            crossed = v >= theta
        v = v - crossed * theta if self.p["subtract"] else v * ~crossed
        self.v = v.reshape(self.v.shape)
        self.s_out.send(crossed.any(-2).astype(float))


class CountSink(AbstractProcess):
    """Adds up what arrives over ``interval`` steps, into a file.

    Args:
        path: An existing ``.npy`` file [samples, *shape], written in place (reading a variable
            takes about 25 us an item).
        shape: Of what arrives.
        interval: Steps of a sample; 1 writes every step's spikes.
        offset: Lava's steps before the first sample's first spikes can arrive.

    Port: ``s_in``.
    """

    def __init__(self, *, path, shape, interval, offset, **options) -> None:
        super().__init__(path=path, shape=shape, interval=interval, offset=offset, **options)
        self.s_in = InPort(shape=shape)


class _Counts(PyLoihiProcessModel):
    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.p = proc_params
        self.file = np.load(self.p["path"], mmap_mode="r+")
        self.count = np.zeros(self.p["shape"], np.int32)

    def run_spk(self) -> None:
        """One step."""
        arrived = self.s_in.recv()
        sample, t = divmod(self.time_step - 1 - self.p["offset"], self.p["interval"])
        if not 0 <= sample < len(self.file):
            return
        if t == 0:
            self.count[:] = 0
        self.count += arrived.astype(np.int32)
        if t == self.p["interval"] - 1:
            self.file[sample] = self.count


@model(CountSink, FIXED)
class PyCountSinkFixed(_Counts):
    """Integers."""

    s_in: PyInPort = IN


@model(CountSink, FLOAT)
class PyCountSinkFloat(_Counts):
    """Floating point."""

    s_in: PyInPort = FLOAT_IN
