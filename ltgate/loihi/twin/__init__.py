"""The integer twin: the chip's arithmetic on any machine, without Lava.

``event`` (CPUs, compiled) and ``portable`` (PyTorch, any device) give the same spikes, bit for bit;
so does Lava (:mod:`ltgate.loihi.lava_backend`).
"""

from importlib import import_module

import numpy as np
from torch import Tensor

from ltgate import backends
from ltgate.errors import UserError
from ltgate.loihi.quantnet import QuantNetwork
from ltgate.loihi.twin.base import Run

__all__ = ["ENGINES", "Run", "forward"]

ENGINES = ("event", "portable")


def forward(
    net: QuantNetwork,
    images: np.ndarray | Tensor,
    drive: np.ndarray,
    raster: tuple[str, ...] = (),
    engine: str = "auto",
    device: str = "cpu",
) -> Run:
    """Show ``images`` to the integer network.

    Args:
        net: What to run.
        images: Integers [B, channels, height, width], or [B, height, width] for one channel: pixel
            bytes or signed graded values.
        drive: Integers [T], the factor on the image at every step of 1 ms.
        raster: Layers whose spikes are wanted step by step.
        engine: ``auto``, ``event`` or ``portable``.
        device: For ``portable``.

    Raises:
        UserError: Something does not fit (:func:`ltgate.backends.fitting`), or is no integer.
    """
    if engine not in ("auto", *ENGINES):
        raise UserError(f"engine={engine!r}; allowed are auto, {', '.join(ENGINES)}")
    drive = np.asarray(drive)
    if (drive != np.round(drive)).any():
        raise UserError(f"drive = {drive[drive != np.round(drive)][0]:g}: the chip takes integers")
    images = backends.fitting(net, images, drive, raster, graded=True)
    if engine == "portable" or (engine == "auto" and device != "cpu"):
        from ltgate.loihi.twin import portable

        return portable.forward(net, images, drive, raster, device)
    event = import_module("ltgate.loihi.twin.event")
    return event.forward(net, images, drive, raster)
