r"""Bounded Hebbian updates, of filters that learn in every batch as the published code meant.

The raw correlation of a batch, summed over time, images and positions::

    dW_c = sum_t post[t] x trace_c[t],        trace_c[t] = lambda_c trace_c[t-1] + pre[t]

comes from the backend (one weight-gradient call). Plain Hebbian growth has no bound, so every
neuron's weights are returned to a sphere after the update, which is what Oja's rule does in the
limit of a small rate (Oja 1982: w <- (w + eta y x) / |w + eta y x|).
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ltgate.backends import Activity
from ltgate.data.tasks import TaskSpec
from ltgate.declare import Group, NotNegative
from ltgate.network import LARGEST, Layer
from ltgate.plasticity.filters import FILTERS, Filters
from ltgate.stages import stage


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


@FILTERS.add("always")
class OnlineFilters(Filters):
    """Bounded Hebbian updates, masked by the gates, without what the projector keeps back."""

    online = True

    def learn(self, task: TaskSpec, pixels: np.ndarray) -> Activity:
        """One local update of all layers; the pass that led to it."""
        decay = np.full(self.network.compartments, self.params.trace_decay, np.float32)
        with stage("forward pass and local update"):
            activity = self.forward(self.network, task, pixels, trace_decay=decay)
        inputs = self.network.pixels(pixels).cpu()
        for layer in self.network.layers:
            self._update(layer, activity, inputs)
            inputs = activity.counts[layer.name].float().cpu()
        return activity

    def end_task(self) -> None:
        """What the task used is protected."""
        for projector in self.projectors.values():
            projector.end_task()

    @stage("weight update")
    def _update(self, layer: Layer, activity: Activity, inputs: Tensor) -> None:
        """One step of a layer, whose ``inputs`` [N, in, height, width] the projector may need."""
        mask = None
        if self.network.compartments > 1:
            self.observe(layer, activity, self.params.variance_lambda)
            mask = torch.stack([layer.gate, 1 - layer.gate])  # [C, out]
        samples = len(activity.counts[layer.name]) * activity.steps
        allowed = self.projectors[layer.name].project(activity.updates[layer.name], samples, inputs)
        layer.weight = update(layer.weight, allowed, self.params.eta, mask)
