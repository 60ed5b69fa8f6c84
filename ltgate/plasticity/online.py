"""Filters that learn in every batch, as the published code meant them to."""

import numpy as np
import torch
from torch import Tensor

from ltgate.backends import Activity
from ltgate.data.tasks import TaskSpec
from ltgate.network import Layer
from ltgate.plasticity import hebbian
from ltgate.plasticity.filters import FILTERS, Filters
from ltgate.stages import stage


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
        mask = self._mask(layer, activity)
        samples = len(activity.counts[layer.name]) * activity.steps
        allowed = self.projectors[layer.name].project(activity.updates[layer.name], samples, inputs)
        layer.weight = hebbian.update(layer.weight, allowed, self.params.eta, mask)

    def _mask(self, layer: Layer, activity: Activity) -> Tensor | None:
        """Masks [C, out] of the gate on the update of a layer."""
        if self.network.compartments == 1:
            return None
        self.observe(layer, activity, self.params.variance_lambda)
        return torch.stack([layer.gate, 1 - layer.gate])
