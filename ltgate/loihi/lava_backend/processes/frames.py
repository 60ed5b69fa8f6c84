"""A source that holds images, not frames: one image a sample, whatever its number of steps."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class FrameSource(AbstractProcess):
    """Sends drive[t] x image, or its change since the step before.

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


@implements(proc=FrameSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyFrameSourceFixed(_Frames):
    """Integers."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    kind = np.int32


@implements(proc=FrameSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyFrameSourceFloat(_Frames):
    """Floating point."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    kind = np.float64
