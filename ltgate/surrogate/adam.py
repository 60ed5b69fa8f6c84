r"""Adam (Kingma & Ba 2015) on named tensors, so that its state can be saved and its steps changed.

With gradient g of step t, b1 = 0.9, b2 = 0.999, eps = 1e-8::

    m <- b1 m + (1 - b1) g        q <- b2 q + (1 - b2) g^2
    step = m / (1 - b1^t) / (sqrt(q / (1 - b2^t)) + eps)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class Adam:
    """Running moments of the gradients of some tensors.

    Attributes:
        mean: m by name.
        square: q by name.
        steps: t, steps so far.
    """

    mean: dict[str, Tensor]
    square: dict[str, Tensor]
    steps: int = 0

    @classmethod
    def create(cls, parameters: dict[str, Tensor]) -> "Adam":
        """No gradient yet."""
        zeros = [{n: torch.zeros_like(p) for n, p in parameters.items()} for _ in range(2)]
        return cls(*zeros)

    def step(
        self, gradients: dict[str, Tensor], whole: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Take in gradients; the steps, to be multiplied by a rate and subtracted.

        Where the gradients are projections, ``whole`` are those before it, from which q is taken.
        """
        self.steps += 1
        moves = {}
        for name, gradient in gradients.items():
            mean = self.mean[name].lerp(gradient, 1 - MEAN_DECAY)
            power = (gradient if whole is None else whole[name]) ** 2
            square = self.square[name].lerp(power, 1 - SQUARE_DECAY)
            self.mean[name], self.square[name] = mean, square
            size = (square / (1 - SQUARE_DECAY**self.steps)).sqrt() + EPSILON
            moves[name] = mean / (1 - MEAN_DECAY**self.steps) / size
        return moves

    def state(self) -> dict[str, Tensor]:
        """The moments, ``mean.<name>`` and ``square.<name>``."""
        return {f"mean.{n}": m for n, m in self.mean.items()} | {
            f"square.{n}": q for n, q in self.square.items()
        }

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Continue from :meth:`state` after so many steps."""
        for name in self.mean:
            self.mean[name] = state[f"mean.{name}"].to(self.mean[name])
            self.square[name] = state[f"square.{name}"].to(self.square[name])
        self.steps = steps
