"""The integer twin: the chip's arithmetic on any machine, without Lava.

The event backend (:mod:`ltgate.backends.event`) with the numbers of a :class:`QuantNetwork`: its
kernels, compiled for integers. Lava gives the same spikes (:mod:`ltgate.loihi.lava_backend`).
"""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ltgate import backends
from ltgate.errors import UserError
from ltgate.fixed_point import DECAY_ONE
from ltgate.loihi.quantnet import QuantNetwork
from ltgate.network import GATE_STEPS, GRID


@dataclass
class Run(backends.Activity):
    """What a run of the integer network leaves, whatever ran it; integers do not learn here.

    Attributes:
        peaks: Per layer, the largest |v| of each compartment before it was clipped, float64 [K].
    """

    peaks: dict[str, np.ndarray] = field(default_factory=dict)


def forward(
    net: QuantNetwork,
    images: np.ndarray | Tensor,
    drive: np.ndarray,
    raster: tuple[str, ...] = (),
) -> Run:
    """Show ``images`` to the integer network, on ``torch.get_num_threads()`` threads.

    Args:
        net: What to run.
        images: Integers [B, channels, height, width], or [B, height, width] for one channel: pixel
            bytes or signed graded values; or streams of 0 and 1, [B, frames, channels, height,
            width].
        drive: Integers [T], the factor on the image at every step of 1 ms.
        raster: Layers whose spikes are wanted step by step.

    Raises:
        UserError: Something does not fit (:func:`ltgate.backends.fitting`), or is no integer.
    """
    from ltgate.backends import event  # compiles

    drive = np.asarray(drive)
    if (drive != np.round(drive)).any():
        raise UserError(f"drive = {drive[drive != np.round(drive)][0]:g}: the chip takes integers")
    images = backends.fitting(net, images, drive, raster, graded=True)
    values = event.Values(
        weights=[layer.weight.reshape(*layer.weight.shape[:2], -1) * np.float32(GRID)
                 for layer in net.layers],
        theta=[layer.threshold for layer in net.layers],
        gate=[layer.gate / GATE_STEPS for layer in net.layers],
        gain=[2.0**layer.exponent for layer in net.layers],
        decay=(DECAY_ONE - net.decay) / DECAY_ONE,
        drive=drive.astype(np.float64),
        limit=np.array([net.limit], np.float64),
    )  # fmt: skip
    activity, peaks = event.simulate(net, values, images, None, raster)
    largest = peaks.max((0, 3), initial=0)
    return Run(**vars(activity), peaks=dict(zip(net.names, largest, strict=True)))
