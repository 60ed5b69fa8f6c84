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


class LearningLTGate(LearningNeuronProcess, AbstractProcess):
    """Class neurons; ``y1`` = gamma (target - spike), ``y2`` = (1 - gamma) (target - spike).

    Args:
        shape: (classes,).
        learning_rule: Of its synapses.
        keep: exp(-1/tau) of each compartment, (2,).
        threshold: theta of both.
        gamma: The gate.
        interval: Steps of a sample; before each, membranes are cleared.

    Ports: ``a_fast`` and ``a_slow``; ``a_third_factor_in``, the target rate; ``s_out``.
    """

    def __init__(
        self, *, shape, learning_rule, keep, threshold, gamma, interval, **options
    ) -> None:  # fmt: skip
        super().__init__(
            shape=shape, learning_rule=learning_rule, keep=keep, threshold=threshold, gamma=gamma,
            interval=interval, **options,
        )  # fmt: skip
        self.a_fast, self.a_slow = InPort(shape=shape), InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v = Var(shape=(2, *shape), init=0)


@implements(proc=LearningLTGate, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLearningLTGateFloat(LearningNeuronModelFloat):
    """Floating point."""

    a_fast: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    a_slow: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)

    def run_spk(self) -> None:
        """One step."""
        p = self.proc_params
        charge = np.stack([self.a_fast.recv(), self.a_slow.recv()])
        if (self.time_step - 1) % p["interval"] == 0:
            self.v[:] = 0
        self.v = self.v * np.asarray(p["keep"])[:, None] + charge
        crossed = self.v >= p["threshold"]
        self.v = self.v - crossed * p["threshold"]
        spikes = crossed.any(0)
        error = self.a_third_factor_in.recv() - spikes
        self.s_out_bap.send(spikes)
        self.s_out_y1.send(p["gamma"] * error)
        self.s_out_y2.send((1 - p["gamma"]) * error)
        self.s_out_y3.send(np.zeros_like(error))
        self.s_out.send(spikes.astype(float))
