"""A linear head over spike counts."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class LinearHead(nn.Module):
    """Cross-entropy of each image, among some classes, of a linear map of its spike counts.

    Attributes:
        weight: [inputs, classes].
        inputs: What the map reads, [B, inputs], of the spike counts [B, ...] by layer.
        among: The classes that compete.
    """

    def __init__(
        self, weight: Tensor, inputs: Callable[[dict[str, Tensor]], Tensor], among: list[int]
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.inputs = inputs
        self.register_buffer("among", torch.tensor(among, device=weight.device))

    @classmethod
    def drawn(
        cls, sizes: dict[str, int], classes: int, generator: np.random.Generator
    ) -> "LinearHead":
        """Reads the L2-normalised counts of the layers named, of so many neurons each.

        float32 weights, uniform in +-1 / sqrt(inputs).
        """
        bound = sum(sizes.values()) ** -0.5
        weight = generator.uniform(-bound, bound, (sum(sizes.values()), classes))

        def inputs(counts: dict[str, Tensor]) -> Tensor:
            return torch.cat([functional.normalize(counts[x].flatten(1), dim=1) for x in sizes], 1)

        return cls(torch.from_numpy(weight.astype(np.float32)), inputs, list(range(classes)))

    def forward(self, counts: dict[str, Tensor], labels: Tensor) -> Tensor:
        """[B], from the spike counts of each layer."""
        scores = (self.inputs(counts) @ self.weight)[:, self.among]
        target = labels[:, None] == self.among
        return -(scores.log_softmax(1) * target).sum(1)
