"""Filters, gates and thresholds of the layers below the readout, and when they learn.

A new rule is a subclass of :class:`Filters` and one entry in ``FILTERS``: it replaces
:meth:`~Filters.learn_layer`, to learn before the first task's pass, or is ``online`` and replaces
:meth:`~Filters.learn`.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ltgate import backends, timescale
from ltgate.backends import Activity, portable
from ltgate.data.store import TaskImages
from ltgate.data.tasks import Schedule, TaskSpec, schedule
from ltgate.declare import Group, OneOf
from ltgate.network import Layer, Network
from ltgate.plasticity import homeostasis
from ltgate.plasticity.gate import GATES, First, Gate
from ltgate.plasticity.projector import PROJECTORS
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
class Filters(nn.Module):
    """A network whose filters stay as drawn; thresholds and gates are set on the first task.

    Attributes:
        network: The layers.
        gates: By layer.
        projectors: By layer; only filters that learn ``online`` take the one that is asked for.
        generator: The learner's source of every draw.
        device: Where the network is.
    """

    online: ClassVar[bool] = False  # whether filters learn in every batch

    def __init__(
        self, network: Network, params: "Params", generator: np.random.Generator, device: str
    ) -> None:
        super().__init__()
        self.__dict__["network"] = network  # not part of this state: the learner's
        self.params, self.generator, self.device = params, generator, device
        gate, rule = GATES[params.gate], PROJECTORS[params.projector if self.online else "none"]
        self.gates = nn.ModuleDict(
            {x.name: gate(x.out_shape[0], params, generator) for x in network.layers}
        )
        self.projectors = nn.ModuleDict(
            {x.name: rule(x, params, generator) for x in network.layers}
        )

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
            self.start(index, images)
            activity = self.calibrate(layer, images)
            if dynamics.compartments == 2 and dynamics.follows == "nothing":
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

    def start(self, index: int, images: TaskImages) -> None:
        """Before the thresholds of layer ``index``: its gates, or the q that its neurons follow."""
        p, layer, dynamics = self.params, self.network.layers[index], self.network.dynamics
        gate = self.gates[layer.name]
        if dynamics.follows == "nothing" and type(gate).start is Gate.start:
            return
        steps = schedule(images.task, p.presentation)
        inputs = self._inputs_in_time(index, images.task, self._calibration(images), steps)
        if dynamics.follows == "rate":
            q = inputs.sum() / inputs.shape[1] / (len(inputs) * steps.dt_ms)
            layer.gate = torch.full_like(layer.gate, float(q))
        elif dynamics.follows == "own":
            bounds = np.log([p.tau_fast_ms, p.tau_slow_ms])
            tau = np.exp(self.generator.uniform(*bounds, layer.out_shape[0]))
            layer.gate = torch.from_numpy(tau).to(layer.gate)
        elif dynamics.follows == "cue":
            ratio = dynamics.tau_ms[-1] / dynamics.tau_ms[0]
            layer.gate = torch.full_like(layer.gate, steps.dt_ms * ratio**0.5)
        else:
            power = self._power(layer, inputs, steps)
            if dynamics.follows == "nothing":
                counts = partial(self._counts_under, layer, images)
                layer.gate = gate.start(layer.gate, First(power, counts, self.generator))
            else:
                fast = np.abs(np.log(np.array(dynamics.tau_ms) / p.tau_fast_ms)).argmin()
                layer.gate = power[int(fast)].to(layer.gate)

    def _inputs_in_time(
        self, index: int, task: TaskSpec, shown: np.ndarray, steps: Schedule
    ) -> Tensor:
        """What layer ``index`` receives of images of a task, float32 [T, B, ...]."""
        if index == 0:
            return portable.shown(self.network, shown, steps)
        before = self.network.names[index - 1]
        activity = self.forward(self.network.upto(before), task, shown, raster=(before,))
        return activity.rasters[before].float()

    def _power(self, layer: Layer, inputs: Tensor, steps: Schedule) -> Tensor:
        """q_c [C, out]: mean over samples and positions of the traces' mean square."""
        own = portable.options(self.network.dynamics, layer, steps)
        parts = (portable.in_time(layer, some) for some in inputs.split(32, 1))
        powers = [timescale.power(part, own["decay"], own["gain"]) for part in parts]
        return torch.stack([power.mean((1, 3, 4)) for power in powers]).mean(0)

    def _counts_under(
        self, layer: Layer, images: TaskImages, gamma: float
    ) -> tuple[Tensor, Tensor]:
        """Counts [N, out] with every neuron's gate at ``gamma``, and labels."""
        layer.gate = torch.full_like(layer.gate, gamma)
        self.calibrate(layer, images)
        part = self.network.upto(layer.name)
        counts = self.forward(part, images.task, images.images[:]).counts[layer.name]
        return counts.sum((2, 3)), torch.as_tensor(images.labels)

    def _calibration(self, images: TaskImages) -> np.ndarray:
        return images.images[: self.params.calibration_batches * self.params.batch_size]

    def calibrate(self, layer: Layer, images: TaskImages) -> Activity:
        """Thresholds of one layer to the target rate on the first task's first images."""
        shown = self._calibration(images)
        show = partial(self.forward, task=images.task, pixels=shown)
        return homeostasis.calibrate(self.network, layer, show, self.params)

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
