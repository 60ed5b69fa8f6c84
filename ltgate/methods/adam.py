r"""Adam with one second moment per neuron, for gradients that are projected or masked.

Adam (Kingma & Ba 2015) divides every entry of a weight tensor by its own size, and so turns a step
away from the gradient; a projected gradient would leave its subspace. Here all weights of a neuron
share the second moment (blocks like those of Adam-mini, Zhang et al. 2024): a neuron's step lies
along the running mean of its gradients. With gradient g of step t, b1 = 0.9, b2 = 0.999 and
eps = 1e-8::

    m <- b1 m + (1 - b1) g        q <- b2 q + (1 - b2) mean over the neuron's inputs of g^2
    step = m / (1 - b1^t) / (sqrt(q / (1 - b2^t)) + eps)
"""

import torch
from torch import Tensor, nn

from ltgate.state import Tensors

MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8


class Adam(nn.Module):
    """Running moments of the gradients of some weights, each [C, out, inputs...].

    Attributes:
        mean: m by name, shaped like the weights.
        square: q by name, [C, out].
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.mean = Tensors(**{name: torch.zeros_like(weight) for name, weight in weights.items()})
        self.square = Tensors(**{n: w.new_zeros(w.shape[:2]) for n, w in weights.items()})

    def step(self, gradients: dict[str, Tensor], number: int) -> dict[str, Tensor]:
        """Take in gradients of step ``number`` (from 1); what to subtract, times a rate."""
        moves = {}
        for name, gradient in gradients.items():
            power = gradient.flatten(2).square().mean(2)
            self.mean[name] = self.mean[name].lerp(gradient, 1 - MEAN_DECAY)
            self.square[name] = self.square[name].lerp(power, 1 - SQUARE_DECAY)
            size = (self.square[name] / (1 - SQUARE_DECAY**number)).sqrt() + EPSILON
            size = size.view(*size.shape, *[1] * (gradient.dim() - 2))
            moves[name] = self.mean[name] / (1 - MEAN_DECAY**number) / size
        return moves
