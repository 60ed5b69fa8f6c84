"""The dual-compartment neuron: floating-point and bit-accurate models."""

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


@implements(proc=LTGate, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyLTGateFixed(_Neurons):
    """24-bit membranes, 12-bit decays: the twin's arithmetic."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int8, precision=1)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    current: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)

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


@implements(proc=LTGate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLTGateFloat(_Neurons):
    """The same equation in floating point: nothing is rounded and nothing saturates."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    current: np.ndarray = LavaPyType(np.ndarray, float)

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
