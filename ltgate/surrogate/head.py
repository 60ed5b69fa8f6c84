"""A linear head over spike counts."""

import numpy as np
import torch
from torch import Tensor, nn


class LinearHead(nn.Module):
    """Cross-entropy of a linear map of the spike counts.

    Inputs are the counts of the chosen layers, each divided by its L2 norm, as those of
    :mod:`ltgate.plasticity.readout`; so neither the number of steps nor the rate sets their scale.

    Attributes:
        layers: Names of the layers read.
        weight: [classes, inputs], drawn uniform in +-1 / sqrt(inputs).
        bias: [classes], starts at zero.
    """

    def __init__(self, sizes: dict[str, int], classes: int, generator: np.random.Generator) -> None:
        """``sizes``: neurons of each layer that is read, by its name."""
        super().__init__()
        self.layers = tuple(sizes)
        inputs = sum(sizes.values())
        bound = inputs**-0.5
        drawn = generator.uniform(-bound, bound, (classes, inputs)).astype(np.float32)
        self.weight = nn.Parameter(torch.from_numpy(drawn))
        self.bias = nn.Parameter(torch.zeros(classes))

    def scores(self, counts: dict[str, Tensor]) -> Tensor:
        """Class scores [B, classes] of spike counts [B, ...] by layer."""
        inputs = [
            nn.functional.normalize(counts[name].to(self.weight.dtype).flatten(1), dim=1)
            for name in self.layers
        ]
        return nn.functional.linear(torch.cat(inputs, 1), self.weight, self.bias)

    def forward(self, counts: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Cross-entropy of each image, [B]."""
        return nn.functional.cross_entropy(self.scores(counts), labels, reduction="none")
