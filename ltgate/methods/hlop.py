r"""HLOP: weight changes orthogonal to the subspaces that earlier tasks used (Xiao et al. 2024).

The forward pass is that of the network, unchanged. The presynaptic rates x of each layer (of a
convolution: their patches), and the readout's inputs, are learned by Hebbian subspace neurons, see
:mod:`ltgate.plasticity.subspace`. From the second task on each weight change D is replaced by
D - D H^T H with the rows H of earlier tasks; a gradient delta x^T becomes delta (x - H^T H x)^T.

The compartments of a layer see the same inputs and share its subspace. Thresholds never change; the
readout's bias does only in the first task. What the projection leaves exactly in place are the
currents of full-precision weights; the forward pass rounds these to their grid of 2^-10.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ltgate.data.store import TaskImages
from ltgate.data.tasks import Schedule, TaskSpec, schedule
from ltgate.declare import Group, Positive, Share
from ltgate.methods.base import METHODS
from ltgate.methods.gradient import READOUT, GradientLearner
from ltgate.network import KERNEL, Network
from ltgate.plasticity.projector import patches
from ltgate.plasticity.subspace import SubspaceNeurons

if TYPE_CHECKING:
    from ltgate.params import Params


class HLOPParameters(Group, late=True):
    """Method hlop."""

    hlop_first: Share = 0.2
    """subspace of the first task, share of a layer's inputs"""
    hlop_next: Share = 0.1
    """subspace of each later task, share of a layer's inputs"""
    hlop_rate: Positive = 1.0
    """learning rate of the subspace neurons"""


@METHODS.add("hlop")
class HLOP(GradientLearner):
    """Subspaces learned in each task, frozen after it, and left alone from then on."""

    preset: ClassVar[dict[str, Any]] = {
        **GradientLearner.preset,
        "head_rate": 0.01,
        "hlop_first": 0.3,
        "hlop_next": 0.1,
    }

    def __init__(self, params: "Params", generator: np.random.Generator) -> None:
        super().__init__(params, generator)
        neurons = {
            layer.name: SubspaceNeurons(layer.weight[0, 0].numel(), self.device)
            for layer in self.used.layers
        }
        neurons[READOUT] = SubspaceNeurons(len(self.readout.weight) - 1)  # not the bias
        self.neurons = nn.ModuleDict(neurons)

    def begin_task(self, position: int, images: TaskImages) -> None:
        """New subspace neurons."""
        super().begin_task(position, images)
        share = self.params.hlop_next if position else self.params.hlop_first
        for neurons in self.neurons.values():
            inputs = neurons.rows.shape[1]
            neurons.extend(max(1, round(share * inputs)), self.generator)

    def end_task(self, position: int) -> None:
        """What was learned is protected from now on."""
        for neurons in self.neurons.values():
            neurons.freeze()

    def _allowed(self, name: str, gradient: Tensor) -> Tensor:
        if self.position == 0:
            return gradient
        neurons = self.neurons[name]
        if name == READOUT:
            projected = neurons.project(gradient[..., :-1])
            return torch.cat([projected, torch.zeros_like(gradient[..., -1:])], 2)
        return neurons.project(gradient.flatten(2)).view_as(gradient)

    def _observe(self, task: TaskSpec, pixels: np.ndarray, counts: dict[str, Tensor]) -> None:
        rate = self.params.hlop_rate
        steps = schedule(task, self.params.presentation)
        seen = rates(self.used, pixels, counts, steps)
        for layer in self.used.layers:
            inputs = patches(seen[layer.name], KERNEL, layer.stride)
            self.neurons[layer.name].learn(inputs, rate)
        inputs = self.readout_inputs(counts)[:, :-1]
        self.neurons[READOUT].learn(inputs.float().cpu(), rate)


def rates(
    network: Network, images: np.ndarray | Tensor, counts: dict[str, Tensor], schedule: Schedule
) -> dict[str, Tensor]:
    """Mean input of each layer per step: float32 [B, channels, height, width] by layer name.

    For the first layer that is the mean pixel current or events, for the others spikes per step.

    Args:
        network: The network that made ``counts``.
        images: As :func:`ltgate.backends.forward` takes them.
        counts: Spike counts by layer, as in :class:`ltgate.surrogate.Gradients`.
        schedule: What the images were shown with.
    """
    images = torch.as_tensor(images).to(network.layers[0].weight.device)
    if images.ndim == 5:  # a stream: the share of steps with an event
        inputs = [images.sum(1).float() / len(schedule)]
    else:
        inputs = [network.pixels(images) * float(schedule.drive.mean())]
    inputs += [counts[name].float() / len(schedule) for name in network.names[:-1]]
    return dict(zip(network.names, inputs, strict=True))
