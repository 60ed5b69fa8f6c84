"""Filters, gates and thresholds of the layers below the readout, and when they learn.

A new rule is a subclass of :class:`Filters` and one entry in ``FILTERS``: it replaces
:meth:`~Filters.learn_layer`, to learn before the first task's pass, or is ``online`` and replaces
:meth:`~Filters.learn`.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ltgate import backends
from ltgate.backends import Activity
from ltgate.checkpoint import part
from ltgate.data.store import TaskImages
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.declare import Group, OneOf
from ltgate.network import Layer, Network
from ltgate.plasticity import homeostasis
from ltgate.plasticity.gate import GATES
from ltgate.plasticity.projector import RankOne
from ltgate.progress import track
from ltgate.registry import Registry

if TYPE_CHECKING:
    from ltgate.params import Params

FILTERS = Registry()  # name -> subclass of Filters


class FilterParameters(Group):
    """Filters."""

    filters: Annotated[str, OneOf(FILTERS)] = "first"
    """filters stay random, learn before the first task's pass, or always"""


@FILTERS.add("random")
class Filters:
    """A network whose filters stay as drawn; thresholds and gates are set on the first task.

    Attributes:
        network: The layers.
        gates: By layer.
        vectors: The published projector's, by layer; drawn whatever the projector.
        generator: The learner's source of every draw.
        device: Where the network is.
    """

    online: ClassVar[bool] = False  # whether filters learn in every batch

    def __init__(
        self, network: Network, params: "Params", generator: np.random.Generator, device: str
    ) -> None:
        self.network, self.params, self.generator = network, params, generator
        self.device, layers = device, network.layers
        gate, compartments = GATES[params.gate], network.compartments
        self.gates = {x.name: gate(x.out_shape[0], params, generator) for x in layers}
        self.vectors = {
            x.name: RankOne.create(compartments, x.out_shape[0], generator) for x in layers
        }

    def make(self, images: TaskImages, used: Network, chunk: int) -> None:
        """Filters, thresholds and gates on the first task, layer by layer.

        Args:
            images: Training images of the task.
            used: The layers that are needed.
            chunk: Images simulated at once.
        """
        dynamics = self.network.dynamics
        for index, layer in enumerate(track(used.layers, label="filters and thresholds")):
            self.learn_layer(index, images, chunk)
            activity = self.calibrate(layer, images)
            if dynamics.compartments == 2:
                before = layer.gate
                self.observe(layer, activity, rate=1.0)
                if dynamics.blended and not torch.equal(layer.gate, before):  # another neuron now
                    self.calibrate(layer, images)

    def learn_layer(self, index: int, images: TaskImages, chunk: int) -> None:
        """Learn the filters of layer ``index``; those before it, and their thresholds, are set."""

    def learn(self, task: TaskSpec, pixels: np.ndarray) -> Activity:
        """One update of all layers, if ``online``; the pass that led to it."""
        raise NotImplementedError

    def end_task(self) -> None:
        """Called after the last batch of a task."""

    def calibrate(self, layer: Layer, images: TaskImages) -> Activity:
        """Thresholds of one layer to the target rate on the first task's first images."""
        p = self.params
        shown = images.images[: p.calibration_batches * p.batch_size]
        return homeostasis.calibrate(
            self.network,
            layer,
            lambda network: self.forward(network, images.task, shown),
            target=p.target_rate,
            scope=p.threshold_scope,
            iterations=p.calibration_iterations,
            tolerance=p.calibration_tolerance,
            bounds=(p.threshold_lowest, p.threshold_highest),
        )

    def observe(self, layer: Layer, activity: Activity, rate: float) -> None:
        """Take a batch's activity into the running variances; set the layer's gates."""
        gate = self.gates[layer.name]
        positions = layer.out_shape[1] * layer.out_shape[2]
        gate.observe(activity.crossings[layer.name], activity.steps, positions, rate)
        layer.gate = gate.gamma(layer.gate).to(layer.gate)

    def forward(
        self, network: Network, task: TaskSpec, pixels: np.ndarray, **options: Any
    ) -> Activity:
        """Show images of a task to (a part of) the network."""
        steps = schedule(task, self.params.presentation)
        return backends.forward(
            network, pixels, steps, backend=self.params.backend, device=self.device, **options
        )

    def frozen(self) -> dict[str, Tensor]:
        """Network, gates and vectors: what answers, and what :meth:`make` makes."""
        tensors = {f"network.{k}": v for k, v in self.network.state().items()}
        tensors |= {f"gate.{k}": v.variance for k, v in self.gates.items()}
        return tensors | {f"vector.{k}": v.vector for k, v in self.vectors.items()}

    def state(self) -> dict[str, Tensor]:
        """All that is learned."""
        return self.frozen()

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over :meth:`state`, or :meth:`frozen` alone."""
        self.network.load(part(tensors, "network"))
        for name in self.gates:
            self.gates[name].variance = tensors[f"gate.{name}"]
            self.vectors[name].vector = tensors[f"vector.{name}"]
