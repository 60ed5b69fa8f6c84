"""Replay: images of earlier tasks are stored and shown again."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ltgate.data.store import Batch, TaskImages
from ltgate.data.tasks import TaskSpec
from ltgate.declare import Group, Whole
from ltgate.methods.base import METHODS, SpikingLearner
from ltgate.state import Tensors

if TYPE_CHECKING:
    from ltgate.params import Params


class Memory(Tensors):
    """Images as bytes, their labels, and the positions of their tasks in the sequence."""

    grows = True


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
    remembered: ClassVar = ("tasks", "met", "begun")

    def __init__(self, params: "Params", generator: np.random.Generator) -> None:
        super().__init__(params, generator)
        inputs = self.readout.weight.shape[0]
        projector = 8 * (inputs * (inputs + 1) // 2 + inputs * self.classes)
        self.bytes = params.replay_bytes or projector
        shape = self.network.layers[0].in_shape
        self.memory = Memory(
            images=torch.zeros(0, *shape[shape[0] == 1 :], dtype=torch.uint8),
            labels=torch.zeros(0, dtype=torch.uint8),
            positions=torch.zeros(0, dtype=torch.uint8),  # of their tasks in the sequence
        )
        self.tasks: list[dict[str, Any]] = []  # so far
        self.met = 0  # images so far, each counted once
        self.begun = 0  # of which before the current task

    def begin_task(self, position: int, images: TaskImages) -> None:
        """From now on the images stored so far are those of earlier tasks."""
        super().begin_task(position, images)
        self.tasks.append(images.task.model_dump())
        self.begun = self.met

    def learn(self, images: TaskImages, batch: Batch) -> None:
        """The readout learns from the batch and as many stored images of earlier tasks."""
        inputs = [self.inputs_of(self._counts(images, batch.indices))]
        labels = [torch.as_tensor(batch.labels)]
        current = len(self.tasks) - 1
        stored = (self.memory.positions < current).nonzero()[:, 0].numpy()
        drawn = self.generator.choice(stored, min(len(batch.labels), len(stored)), replace=False)
        for earlier in range(current):
            rows = drawn[self.memory.positions[drawn].numpy() == earlier]
            if len(rows):
                inputs.append(self._replayed(rows, earlier))
                labels.append(self.memory.labels[rows].long())
        columns = torch.as_tensor(self.columns(torch.cat(labels).numpy()))
        self.readout.learn(torch.cat(inputs), columns, self.columns(images.task.classes).tolist())
        if self.met - self.begun < len(images):  # the first pass
            self._store(batch, current)

    def _replayed(self, rows: np.ndarray, position: int) -> Tensor:
        """Readout inputs of stored images, shown as their task shows them."""
        task = TaskSpec(**self.tasks[position])
        activity = self.filters.forward(self.used, task, self.memory.images[rows].numpy())
        return self.inputs_of(self.seen(activity))

    def _store(self, batch: Batch, position: int) -> None:
        """Where there is no room, image n (from 0) replaces a random one of n + 1, or none."""
        capacity = self.bytes // (batch.images[0].nbytes + 2)
        number = self.met + np.arange(len(batch.labels))
        place = np.where(number < capacity, number, self.generator.integers(0, number + 1))
        kept = place < capacity
        self.met += len(batch.labels)
        new = (batch.images, batch.labels, np.full(len(batch.labels), position))
        for (name, memory), values in zip(list(self.memory.named_buffers()), new, strict=True):
            grown = memory.new_zeros(min(self.met, capacity), *memory.shape[1:])
            grown[: len(memory)] = memory
            grown[place[kept]] = torch.as_tensor(values[kept]).to(torch.uint8)
            self.memory[name] = grown
