r"""Bounded Hebbian update of a layer's weights.

The raw correlation of a batch, summed over time, images and positions::

    dW_c = sum_t post[t] x trace_c[t],        trace_c[t] = lambda_c trace_c[t-1] + pre[t]

comes from the backend (one weight-gradient call). Plain Hebbian growth has no bound, so every
neuron's weights are returned to a sphere after the update, which is what Oja's rule does in the
limit of a small rate (Oja 1982: w <- (w + eta y x) / |w + eta y x|).
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ltgate.declare import Group, NotNegative
from ltgate.network import LARGEST


class HebbianParameters(Group, late=True):
    """Published Hebbian update."""

    eta: NotNegative = 0.01
    """rate of the published Hebbian update"""
    trace_decay: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """presynaptic trace kept per step"""


def update(weight: Tensor, correlation: Tensor, rate: float, mask: Tensor | None = None) -> Tensor:
    """One bounded step for all neurons of a layer.

    The correlation of each neuron is scaled to unit length first, so ``rate`` is the relative size
    of the step whatever the activity, and the neuron's weight norm is kept.

    Args:
        weight: [C, out, ...] full-precision weights.
        correlation: Same shape, non-negative for non-negative inputs.
        rate: eta, dimensionless.
        mask: Optional factors [C, out] on the step (gates).

    Returns:
        New weights of the same shape and the same norm per compartment and neuron.
    """
    flat = weight.flatten(2)
    step = torch.nn.functional.normalize(correlation.flatten(2), dim=2)
    if mask is not None:
        step = step * mask[:, :, None]
    norm = flat.norm(dim=2, keepdim=True)
    moved = flat + rate * norm * step
    length = moved.norm(dim=2, keepdim=True)
    moved = torch.where(length > 0, moved * (norm / length.clamp_min(1e-30)), flat)
    return moved.clamp(-LARGEST, LARGEST).reshape(weight.shape)
