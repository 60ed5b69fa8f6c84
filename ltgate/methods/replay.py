"""Replay: images of earlier tasks are stored and shown again."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ltgate.data.store import Batch, TaskImages
from ltgate.data.tasks import TaskSpec
from ltgate.declare import Group, Whole
from ltgate.methods.base import METHODS, SpikingLearner

if TYPE_CHECKING:
    from ltgate.params import Params

MEMORY = ("images", "labels", "positions")  # positions of their tasks in the sequence


class ReplayParameters(Group, late=True):
    """Method replay."""

    replay_bytes: Whole = 0
    """memory of the method replay (bytes); 0 = as much as readout rls keeps"""


@METHODS.add("replay")
class Replay(SpikingLearner):
    """LT-Gate's features under a delta rule; each batch goes with as many stored images.

    The memory holds images as bytes: every image met, or where that is too much a uniform sample
    of them (reservoir sampling, Vitter 1985). It may take as many bytes as the full projector's
    state, unless ``replay_bytes`` says otherwise. What is replayed belongs to earlier tasks.
    """

    preset: ClassVar[dict[str, Any]] = {
        "filters": "first",
        "projector": "none",
        "readout": "delta",
        "readout_rate": 16.0,  # of 1, 4, 16, 64 on validation images (params/tuning.csv)
    }

    def __init__(self, params: "Params", generator: np.random.Generator) -> None:
        super().__init__(params, generator)
        inputs = self.readout.weight.shape[0]
        projector = 8 * (inputs * (inputs + 1) // 2 + inputs * self.classes)
        self.bytes = params.replay_bytes or projector
        shape = self.network.layers[0].in_shape
        self.images = torch.zeros(0, *shape[shape[0] == 1 :], dtype=torch.uint8)
        self.labels = torch.zeros(0, dtype=torch.uint8)
        self.positions = torch.zeros(0, dtype=torch.uint8)
        self.tasks: list[TaskSpec] = []
        self.met = 0  # images so far, each counted once
        self.begun = 0  # of which before the current task

    def begin_task(self, position: int, images: TaskImages) -> None:
        """From now on the images stored so far are those of earlier tasks."""
        super().begin_task(position, images)
        self.tasks.append(images.task)
        self.begun = self.met

    def learn(self, images: TaskImages, batch: Batch) -> None:
        """The readout learns from the batch and as many stored images of earlier tasks."""
        inputs = [self.inputs_of(self._counts(images, batch.indices))]
        labels = [torch.as_tensor(batch.labels)]
        current = len(self.tasks) - 1
        stored = (self.positions < current).nonzero()[:, 0].numpy()
        drawn = self.generator.choice(stored, min(len(batch.labels), len(stored)), replace=False)
        for earlier in range(current):
            rows = drawn[self.positions[drawn].numpy() == earlier]
            if len(rows):
                inputs.append(self._replayed(rows, earlier))
                labels.append(self.labels[rows].long())
        self.readout.learn(torch.cat(inputs), torch.cat(labels), list(images.task.classes))
        if self.met - self.begun < len(images):  # the first pass
            self._store(batch, current)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Also the memory."""
        tensors, plain = super().state()
        tensors |= {f"memory.{name}": getattr(self, name) for name in MEMORY}
        tasks = [task.model_dump() for task in self.tasks]
        return tensors, {**plain, "tasks": tasks, "met": self.met, "begun": self.begun}

    def load(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        super().load(tensors, plain)
        for name in MEMORY:
            setattr(self, name, tensors[f"memory.{name}"])
        self.tasks = [TaskSpec(**task) for task in plain["tasks"]]
        self.met, self.begun = plain["met"], plain["begun"]

    def _replayed(self, rows: np.ndarray, position: int) -> Tensor:
        """Readout inputs of stored images, shown as their task shows them."""
        task = self.tasks[position]
        activity = self.filters.forward(self.used, task, self.images[rows].numpy())
        return self.inputs_of(self.seen(activity))

    def _store(self, batch: Batch, position: int) -> None:
        """Where there is no room, image n (from 0) replaces a random one of n + 1, or none."""
        capacity = self.bytes // (batch.images[0].nbytes + 2)
        number = self.met + np.arange(len(batch.labels))
        place = np.where(number < capacity, number, self.generator.integers(0, number + 1))
        kept = place < capacity
        self.met += len(batch.labels)
        new = (batch.images, batch.labels, np.full(len(batch.labels), position))
        for name, values in zip(MEMORY, new, strict=True):
            memory = getattr(self, name)
            grown = memory.new_zeros(min(self.met, capacity), *memory.shape[1:])
            grown[: len(memory)] = memory
            grown[place[kept]] = torch.as_tensor(values[kept]).to(torch.uint8)
            setattr(self, name, grown)
