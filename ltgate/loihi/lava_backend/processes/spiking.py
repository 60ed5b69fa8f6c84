"""The network in Lava: a source of images, synapses, neurons, a sink that counts; and the learner.

Integers throughout (``fixed_pt``), but for the neuron that learns (``floating_pt``).
"""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.neuron import LearningNeuronModelFloat
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.neuron import LearningNeuronProcess
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from ltgate.fixed_point import DECAY_ONE
from ltgate.loihi.lava_backend import arithmetic
from ltgate.loihi.rule import third_factor

FIXED = ("fixed_pt", "bit_accurate_loihi")
_KINDS = (PyInPort.VEC_DENSE, PyOutPort.VEC_DENSE, np.ndarray)
IN, OUT, STATE = (LavaPyType(kind, np.int32, precision=24) for kind in _KINDS)
FLOAT_IN, FLOAT_OUT, FLOAT_STATE = (LavaPyType(kind, float) for kind in _KINDS)


def model(process, *tags):
    """Decorator of a class that models ``process`` on CPUs."""

    def mark(cls):
        return implements(proc=process, protocol=LoihiProtocol)(requires(CPU)(tag(*tags)(cls)))

    return mark


class FrameSource(AbstractProcess):
    """Sends drive[t] x image, or its change since the step before.

    Args:
        images: [samples, ...], integers such as [samples, batch, height, width, channels]; streams
            have their frames after the samples.
        drive: Integers [T].
        differences: Send changes only; the first layer's neurons hold the current.
        frames: Of streams, which frame step t shows, [T]; -1: none.

    Port: ``s_out``, of one sample's or frame's shape. After the last sample it sends zeros.
    """

    def __init__(self, *, images, drive, differences=False, frames=None) -> None:
        super().__init__(images=images, drive=drive, differences=differences, frames=frames)
        self.s_out = OutPort(shape=images.shape[1 if frames is None else 2 :])


@model(FrameSource, *FIXED)
class PyFrameSource(PyLoihiProcessModel):
    """Integers."""

    s_out: PyOutPort = OUT

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        images, streamed = proc_params["images"], proc_params["frames"] is not None
        self.nothing = np.zeros(images.shape[1 + streamed :], np.int32)
        self.before = self.nothing

    def run_spk(self) -> None:
        """One step."""
        p = self.proc_params
        sample, t = divmod(self.time_step - 1, len(p["drive"]))
        now = self.nothing
        if sample < len(p["images"]) and p["drive"][t]:
            shown = p["images"][sample]
            shown = shown if p["frames"] is None else shown[p["frames"][t]]
            now = shown.astype(np.int32) * np.int32(p["drive"][t])
        self.s_out.send(now - self.before if p["differences"] and t else now)
        self.before = now


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

    def __init__(self, *, weight, stride, padding, in_shape, out_shape) -> None:
        super().__init__(weight=weight, stride=stride, padding=padding, out_shape=out_shape)
        self.s_in, self.a_out = InPort(shape=in_shape), OutPort(shape=out_shape)


@model(EventConv, *FIXED)
class PyEventConv(PyLoihiProcessModel):
    """Integers."""

    s_in: PyInPort = IN
    a_out: PyOutPort = OUT

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.weight = np.ascontiguousarray(proc_params["weight"], np.int32)
        self.total = np.zeros(proc_params["out_shape"], np.int32)

    def run_spk(self) -> None:
        """One step."""
        p = self.proc_params
        self.a_out.send(self.total)
        arithmetic.scatter(self.s_in.recv(), self.weight, p["stride"], p["padding"], self.total)


class LTGate(AbstractProcess):
    """Neurons of one layer; see :mod:`ltgate.loihi.quantnet` for the equation.

    Args:
        shape: (..., out).
        decay: 12-bit d, [K].
        exponent: e, [K].
        threshold: theta, [K, out] or [1, out].
        gate: g, [out].
        blend, subtract: ``blended`` and ``subtracts`` of the network.
        limit: Where membranes saturate.
        held: Whether input is a change of a current that stays until the reset.
        interval: Steps of a sample; before each, state is cleared.
        offset: Lava's steps before the first sample's first input arrives.

    Ports: ``a_in`` (..., K x out), fast compartment first; ``s_out`` (..., out), 0 or 1.
    """

    def __init__(self, *, shape, decay, **options) -> None:
        super().__init__(shape=shape, decay=decay, **options)
        state = (*shape[:-1], len(decay) * shape[-1])
        self.a_in, self.s_out = InPort(shape=state), OutPort(shape=shape)
        self.v, self.current = Var(shape=state, init=0), Var(shape=state, init=0)


@model(LTGate, *FIXED)
class PyLTGate(PyLoihiProcessModel):
    """24-bit membranes, 12-bit decays: the twin's arithmetic."""

    a_in: PyInPort = IN
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int8, precision=1)
    v: np.ndarray = STATE
    current: np.ndarray = STATE

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        names = ("exponent", "threshold", "gate")
        keep = DECAY_ONE - np.asarray(proc_params["decay"], np.int64)
        self.values = keep, *(np.ascontiguousarray(proc_params[name], np.int64) for name in names)
        self.spikes = np.zeros(proc_params["shape"], np.int8)

    def run_spk(self) -> None:
        """One step; state is cleared where a sample begins."""
        p, lanes, channels = self.proc_params, self.v.shape[-1], len(self.values[-1])
        since = self.time_step - 1 - p["offset"]
        charge = self.a_in.recv()
        if since >= 0 and since % p["interval"] == 0:
            self.v[:] = self.current[:] = 0
        if p["held"]:
            self.current += charge
            charge = self.current
        arithmetic.advance(
            self.v.reshape(-1, lanes), charge.reshape(-1, lanes), *self.values, p["blend"],
            p["subtract"], p["limit"], self.spikes.reshape(-1, channels),
        )  # fmt: skip
        self.s_out.send(self.spikes)


class CountSink(AbstractProcess):
    """Adds up what arrives over ``interval`` steps, into a file.

    Args:
        path: An existing ``.npy`` file ``[samples, *shape]``, written in place (reading a variable
            takes about 25 us an item).
        shape: Of what arrives.
        interval: Steps of a sample; 1 writes every step's spikes.
        offset: Lava's steps before the first sample's first spikes can arrive.

    Port: ``s_in``.
    """

    def __init__(self, *, path, shape, interval, offset) -> None:
        super().__init__(path=path, shape=shape, interval=interval, offset=offset)
        self.s_in = InPort(shape=shape)


@model(CountSink, *FIXED)
class PyCountSink(PyLoihiProcessModel):
    """Integers."""

    s_in: PyInPort = IN

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.file = np.load(proc_params["path"], mmap_mode="r+")
        self.count = np.zeros(proc_params["shape"], np.int32)

    def run_spk(self) -> None:
        """One step."""
        arrived, steps = self.s_in.recv(), self.proc_params["interval"]
        sample, t = divmod(self.time_step - 1 - self.proc_params["offset"], steps)
        if 0 <= sample < len(self.file):
            self.count = arrived.astype(np.int32) + (self.count if t else 0)
            if t == steps - 1:
                self.file[sample] = self.count


class LearningLTGate(LearningNeuronProcess, AbstractProcess):
    """Class neurons that learn; see :mod:`ltgate.loihi.rule` for the equation.

    Args:
        shape: (classes,).
        learning_rule: Of its synapses.
        keep, gate: exp(-1/tau) and gamma of each compartment, (2,).
        eta: Factor on the third factor.
        interval: Steps of a sample; before each, state is cleared.

    Ports: ``a_fast``, ``a_slow``, ``a_number`` (how many spikes came); ``a_third_factor_in``, the
    target rate or -1 for no lesson; ``s_out``.
    """

    def __init__(self, *, shape, learning_rule, **options) -> None:
        super().__init__(shape=shape, learning_rule=learning_rule, **options)
        self.a_fast, self.a_slow = InPort(shape=shape), InPort(shape=shape)
        self.a_number, self.s_out = InPort(shape=(1,)), OutPort(shape=shape)
        self.v, self.r = Var(shape=(2, *shape), init=0), Var(shape=(2, 1), init=0)
        self.count = Var(shape=shape, init=0)


@model(LearningLTGate, "floating_pt")
class PyLearningLTGate(LearningNeuronModelFloat):
    """Floating point: a neuron that sends a third factor to its learning synapses."""

    a_fast: PyInPort = FLOAT_IN
    a_slow: PyInPort = FLOAT_IN
    a_number: PyInPort = FLOAT_IN
    s_out: PyOutPort = FLOAT_OUT
    v: np.ndarray = FLOAT_STATE
    r: np.ndarray = FLOAT_STATE
    count: np.ndarray = FLOAT_STATE

    def run_spk(self) -> None:
        """One step."""
        p = self.proc_params
        charge = np.stack([self.a_fast.recv(), self.a_slow.recv()])
        number, target = self.a_number.recv(), self.a_third_factor_in.recv()
        keep = np.asarray(p["keep"])[:, None]
        since = (self.time_step - 1) % p["interval"]
        if since == 0:  # what arrives now is of the sample before
            self.v[:], self.r[:], self.count[:] = 0, 0, 0
        else:
            self.v, self.r = self.v * keep + charge, self.r * keep + number
        bar = (1 - keep) * self.r
        crossed = (self.v >= bar) & (bar > 0)
        self.v = self.v - crossed * bar
        spikes = crossed.any(0)
        self.count = self.count + spikes
        third = np.zeros_like(self.v)
        if since == p["interval"] - 1:
            rates = self.count / p["interval"]
            third = p["eta"] * third_factor(target, rates, self.r[:, 0], np.asarray(p["gate"]))
        self.s_out_bap.send(spikes)
        self.s_out_y1.send(third[0])
        self.s_out_y2.send(third[1])
        self.s_out_y3.send(np.zeros_like(target))
        self.s_out.send(spikes.astype(float))
