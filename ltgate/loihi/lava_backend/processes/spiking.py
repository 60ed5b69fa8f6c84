"""The network in Lava: a source of images, synapses, neurons that record. Integers throughout.

As the equations are written: nothing here is shared with the twin.
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

from ltgate.fixed_point import DECAY_ONE
from ltgate.loihi.lava_backend.arithmetic import integrate, scatter
from ltgate.network import GATE_STEPS

_KINDS = (PyInPort.VEC_DENSE, PyOutPort.VEC_DENSE, np.ndarray)
IN, OUT, STATE = (LavaPyType(kind, np.int32, precision=24) for kind in _KINDS)


def model(process):
    """Decorator of a class that models ``process`` on CPUs, in integers."""

    def mark(cls):
        tagged = requires(CPU)(tag("fixed_pt", "bit_accurate_loihi")(cls))
        return implements(proc=process, protocol=LoihiProtocol)(tagged)

    return mark


class FrameSource(AbstractProcess):
    """Sends drive[t] x frame, or its change since the step before.

    Args:
        images: Integers [samples, frames, ...], such as [..., batch, height, width, channels].
        frames: Which frame each step shows, [T].
        drive: Integers [T].
        differences: Send changes only; the first layer's neurons hold the current.

    Port: ``s_out``, of one frame's shape. After the last sample it sends zeros.
    """

    def __init__(self, *, images, frames, drive, differences=False) -> None:
        super().__init__(images=images, frames=frames, drive=drive, differences=differences)
        self.s_out = OutPort(shape=images.shape[2:])


@model(FrameSource)
class PyFrameSource(PyLoihiProcessModel):
    """Integers."""

    s_out: PyOutPort = OUT
    before = 0

    def run_spk(self) -> None:
        """One step."""
        images, drive = self.proc_params["images"], self.proc_params["drive"]
        sample, t = divmod(self.time_step - 1, len(drive))
        now = np.zeros(images.shape[2:], np.int32)
        if sample < len(images):
            now += images[sample, self.proc_params["frames"][t]] * np.int32(drive[t])
        self.s_out.send(now - self.before if self.proc_params["differences"] and t else now)
        self.before = now


class Synapses(AbstractProcess):
    """Weights of one layer, all compartments, on spikes or signed graded messages.

    Args:
        weight: Integers [K, out, in, kernel height, kernel width].
        stride, padding: Of the convolution; a dense layer's kernel covers its input.
        in_shape: (batch, height, width, in).
        out_shape: (batch, height, width, K, out).

    Ports: ``s_in``, ``a_out``. What arrives in a step is sent in the next one.
    """

    def __init__(self, *, weight, stride, padding, in_shape, out_shape) -> None:
        super().__init__(weight=weight, stride=stride, padding=padding, out_shape=out_shape)
        self.s_in, self.a_out = InPort(shape=in_shape), OutPort(shape=out_shape)


@model(Synapses)
class PySynapses(PyLoihiProcessModel):
    """Integers."""

    s_in: PyInPort = IN
    a_out: PyOutPort = OUT

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        weight = proc_params["weight"]
        shape = (*weight.shape[3:], weight.shape[2], -1)
        weight = weight.transpose(3, 4, 2, 0, 1).reshape(shape)
        self.weight = np.ascontiguousarray(weight, np.int32)
        self.total = np.zeros(proc_params["out_shape"], np.int32)

    def run_spk(self) -> None:
        """One step."""
        self.a_out.send(self.total)
        self.total[:] = 0
        scatter(
            self.s_in.recv(), self.weight, self.proc_params["stride"],
            self.proc_params["padding"], self.total.reshape(*self.total.shape[:3], -1),
        )  # fmt: skip


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
        path: An existing ``.npy`` file [steps, *shape]: every step's spikes are written there
            (reading a variable takes about 25 us an item). '': none.

    Ports: ``a_in`` (..., K, out), fast compartment first; ``s_out`` (..., out), 0 or 1.
    """

    def __init__(self, *, shape, decay, **options) -> None:
        super().__init__(shape=shape, decay=decay, **options)
        state = (*shape[:-1], len(decay), shape[-1])
        self.a_in, self.s_out = InPort(shape=state), OutPort(shape=shape)
        self.v, self.current = Var(shape=state, init=0), Var(shape=state, init=0)


@model(LTGate)
class PyLTGate(PyLoihiProcessModel):
    """24-bit membranes, 12-bit decays."""

    a_in: PyInPort = IN
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int8, precision=1)
    v: np.ndarray = STATE
    current: np.ndarray = STATE

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        path = proc_params["path"]
        self.file = np.load(path, mmap_mode="r+") if path else ()
        self.keep = DECAY_ONE - proc_params["decay"][:, None]
        self.exponent = proc_params["exponent"][:, None]
        self.gate, self.theta = proc_params["gate"], proc_params["threshold"]

    def run_spk(self) -> None:
        """One step; state is cleared where a sample begins."""
        p, since = self.proc_params, self.time_step - 1 - self.proc_params["offset"]
        charge = self.a_in.recv()
        if since % p["interval"] == 0:
            self.v[:] = self.current[:] = 0
        if p["held"]:
            self.current += charge
            charge = self.current
        v = integrate(self.v, charge, self.keep, self.exponent, p["limit"])
        if p["blend"]:
            blend = self.gate * v[..., 0, :] + (GATE_STEPS - self.gate) * v[..., 1, :]
            crossed = (blend >= GATE_STEPS * self.theta[0])[..., None, :]
        else:
            crossed = v >= self.theta
        spikes = crossed.any(-2)
        self.v[:] = v - crossed * self.theta if p["subtract"] else v * ~crossed
        if 0 <= since < len(self.file):
            self.file[since] = spikes
        self.s_out.send(spikes.astype(np.int8))
