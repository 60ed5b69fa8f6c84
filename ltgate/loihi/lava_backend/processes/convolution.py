"""An event-driven convolution: work in proportion to spikes."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from ltgate.loihi.lava_backend import arithmetic


class EventConv(AbstractProcess):
    """Synapses of one layer, all compartments; spikes or signed graded messages go in.

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


@implements(proc=EventConv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyEventConvFixed(_Synapses):
    """Integers."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    kind = np.int32


@implements(proc=EventConv, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyEventConvFloat(_Synapses):
    """Floating point."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    kind = np.float64
