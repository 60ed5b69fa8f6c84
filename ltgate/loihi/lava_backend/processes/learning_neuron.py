"""A dual-compartment neuron that sends a third factor to its learning synapses."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.neuron import LearningNeuronModelFloat
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.neuron import LearningNeuronProcess
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from ltgate.loihi.rule import third_factor


class LearningLTGate(LearningNeuronProcess, AbstractProcess):
    """Class neurons that learn; see :mod:`ltgate.loihi.rule` for the equation.

    Args:
        shape: (classes,).
        learning_rule: Of its synapses.
        keep: exp(-1/tau) of each compartment, (2,).
        theta: Of each compartment, (2,).
        gate: gamma of each compartment, (2,).
        eta: Factor on the third factor.
        interval: Steps of a sample; before each, state is cleared.

    Ports: ``a_fast``, ``a_slow``, ``a_number`` (how many spikes came); ``a_third_factor_in``, the
    target rate or -1 for no lesson; ``s_out``.
    """

    def __init__(
        self, *, shape, learning_rule, keep, theta, gate, eta, interval, **options
    ) -> None:  # fmt: skip
        super().__init__(
            shape=shape, learning_rule=learning_rule, keep=keep, theta=theta, gate=gate, eta=eta,
            interval=interval, **options,
        )  # fmt: skip
        self.a_fast, self.a_slow = InPort(shape=shape), InPort(shape=shape)
        self.a_number = InPort(shape=(1,))
        self.s_out = OutPort(shape=shape)
        self.v = Var(shape=(2, *shape), init=0)
        self.r = Var(shape=(2, 1), init=0)
        self.count = Var(shape=shape, init=0)


@implements(proc=LearningLTGate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLearningLTGateFloat(LearningNeuronModelFloat):
    """Floating point."""

    a_fast: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    a_slow: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    a_number: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    r: np.ndarray = LavaPyType(np.ndarray, float)
    count: np.ndarray = LavaPyType(np.ndarray, float)

    def run_spk(self) -> None:
        """One step."""
        p = self.proc_params
        charge = np.stack([self.a_fast.recv(), self.a_slow.recv()])
        number, target = self.a_number.recv(), self.a_third_factor_in.recv()
        keep, theta = (np.asarray(p[name])[:, None] for name in ("keep", "theta"))
        since = (self.time_step - 1) % p["interval"]
        if since == 0:  # what arrives now is of the sample before
            self.v[:], self.r[:], self.count[:] = 0, 0, 0
        else:
            self.v, self.r = self.v * keep + charge, self.r * keep + number
        bar = theta * self.r
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
