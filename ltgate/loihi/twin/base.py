"""What a run of the integer network leaves, whatever ran it."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ltgate.loihi.quantnet import QuantNetwork


@dataclass
class Run:
    """B samples of T steps.

    Attributes:
        steps: T.
        counts: Per layer, spikes of each neuron, int32 [B, channels, height, width].
        crossings: Per layer, threshold crossings summed over steps and positions, int64
            [B, K, channels].
        rasters: For the layers asked for, uint8 [T, B, channels, height, width].
        peaks: Per layer, the largest |v| of each compartment before it was clipped, float64 [K].
    """

    steps: int
    counts: dict[str, Tensor] = field(default_factory=dict)
    crossings: dict[str, Tensor] = field(default_factory=dict)
    rasters: dict[str, Tensor] = field(default_factory=dict)
    peaks: dict[str, np.ndarray] = field(default_factory=dict)

    def saturated(self, net: QuantNetwork) -> list[str]:
        """Layers in which a membrane was clipped."""
        return [name for name, peak in self.peaks.items() if peak.max() > net.limit]
