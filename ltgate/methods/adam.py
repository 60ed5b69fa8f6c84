r"""Adam with one second moment per neuron, for gradients that are projected or masked.

Adam (Kingma & Ba 2015) divides every entry of a weight tensor by its own size, and so turns a step
away from the gradient; a projected gradient would leave its subspace. Here all weights of a neuron
share the second moment (blocks like those of Adam-mini, Zhang et al. 2024): a neuron's step lies
along the running mean of its gradients. With gradient g of step t, b1 = 0.9, b2 = 0.999 and
eps = 1e-8::

    m <- b1 m + (1 - b1) g        q <- b2 q + (1 - b2) mean over the neuron's inputs of g^2
    step = m / (1 - b1^t) / (sqrt(q / (1 - b2^t)) + eps)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class Adam:
    """Running moments of the gradients of some weights, each [C, out, inputs...].

    Attributes:
        mean: m by name, shaped like the weights.
        square: q by name, [C, out].
        steps: t, steps so far.
    """

    mean: dict[str, Tensor]
    square: dict[str, Tensor]
    steps: int = 0

    @classmethod
    def create(cls, weights: dict[str, Tensor]) -> "Adam":
        """No gradient yet."""
        mean = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        return cls(
            mean, {name: weight.new_zeros(weight.shape[:2]) for name, weight in mean.items()}
        )

    def step(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take in gradients; the steps, to be multiplied by a rate and subtracted."""
        self.steps += 1
        moves = {}
        for name, gradient in gradients.items():
            power = gradient.flatten(2).square().mean(2)
            self.mean[name] = self.mean[name].lerp(gradient, 1 - MEAN_DECAY)
            self.square[name] = self.square[name].lerp(power, 1 - SQUARE_DECAY)
            size = (self.square[name] / (1 - SQUARE_DECAY**self.steps)).sqrt() + EPSILON
            size = size.view(*size.shape, *[1] * (gradient.dim() - 2))
            moves[name] = self.mean[name] / (1 - MEAN_DECAY**self.steps) / size
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
