"""A sink that counts spikes, sample by sample, into a file.

Lava reads a variable item by item (about 25 us each); a file takes none of that.
"""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class CountSink(AbstractProcess):
    """Adds up what arrives over ``interval`` steps.

    Args:
        path: An existing ``.npy`` file [samples, *shape]; it is written in place.
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


@implements(proc=CountSink, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyCountSinkFixed(_Counts):
    """Integers."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)


@implements(proc=CountSink, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyCountSinkFloat(_Counts):
    """Floating point."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
