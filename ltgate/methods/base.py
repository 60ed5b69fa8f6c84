"""The spiking learner that all methods are, and what it offers to the continual loop."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ltgate import backends, checkpoint, features, memory, paths
from ltgate.backends import Activity
from ltgate.data import sources
from ltgate.data.store import Batch, TaskImages
from ltgate.files import lock
from ltgate.network import Network, drawn
from ltgate.plasticity import readout
from ltgate.plasticity.filters import FILTERS
from ltgate.registry import Registry
from ltgate.stages import stage
from ltgate.state import Tensors

if TYPE_CHECKING:
    from ltgate.params import Params

METHODS = Registry()  # name -> subclass of SpikingLearner, or a class with its methods
STEP = features.LARGE_BATCH * 4  # images that the readout scores at once


class SpikingLearner(nn.Module):
    """Filters that learn by local rules under a readout that learns from spike counts.

    What the parameters choose: filters random, learned on the first task and then frozen, or
    learned in every batch; gate; projector; readout and the layers that it reads. The loop in
    :mod:`ltgate.train` calls ``configure`` to ``load_snapshot``: all that a method has to offer.

    Attributes:
        preset: The parameters that define the method; they go over all others.
        remembered: Names of plain data that belong to the state, beside all tensors of modules.
        answering: Modules that a snapshot needs, beside the readout.
        labels: Those of all tasks, ascending; each has a column in the readout.
    """

    preset: ClassVar[dict[str, Any]] = {}
    remembered: ClassVar[tuple[str, ...]] = ()
    answering: ClassVar[tuple[str, ...]] = ("network", "filters.gates")

    def __init__(self, params: "Params", generator: np.random.Generator) -> None:
        super().__init__()
        p = self.params = params
        self.generator = generator
        self.device = backends.device(p.device)
        self.network = drawn(p, sources.of(p).image_shape, generator).to(self.device)
        self.filters = FILTERS[p.filters](self.network, p, generator, self.device)
        self.labels = np.unique([label for task in p.tasks for label in task.classes])
        self.classes = len(self.labels)
        self.readout = self.new_readout()
        none = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # mean and standard deviation
        sizes = self.sizes if p.standardise_counts else {}
        self.standards = Tensors(**{view: none.repeat(1, size) for view, size in sizes.items()})
        self._cache: dict[tuple, features.Features] = {}

    @classmethod
    def configure(cls, params: "Params") -> "Params":
        """``params`` under the method's preset."""
        return params.with_(**cls.preset)

    def curriculum(self, position: int) -> list[int]:
        """Positions of the tasks whose training images are shown: here the task itself alone."""
        return [position]

    def begin_task(self, position: int, images: TaskImages) -> None:
        """Called before the first batch of a task, with its training images.

        On the first task the filters are learned, if wanted, and thresholds calibrated.
        """
        if position:
            return
        self._prepare_filters(images)
        if self.params.standardise_counts:
            for view, counts in self._counts(images, np.arange(len(images))).items():
                seen = readout.root(counts) if self.params.root_counts else counts
                self.standards[view] = readout.standard(seen)

    def learn(self, images: TaskImages, batch: Batch) -> None:
        """One batch of ``images``: filters (if they never freeze), then the readout."""
        if self.filters.online:
            counts = self.seen(self.filters.learn(images.task, batch.images))
            self._cache.clear()
        else:
            counts = self._counts(images, batch.indices)
        labels = torch.as_tensor(self.columns(batch.labels))
        inputs = self.inputs_of(counts)
        with stage("readout"):
            self.readout.learn(inputs, labels, self.columns(images.task.classes).tolist())

    def end_task(self, position: int) -> None:
        """Called after a task's last batch: with projector ``rankk``, what it used is protected."""
        self.filters.end_task()
        self.readout.end_task(self.params)

    def scores(self, images: TaskImages, number: int = 0) -> Tensor:
        """Scores of all images or the first ``number``, float64 [N, 1 + largest label]."""
        rows = np.arange(min(number or len(images), len(images)))
        found = torch.cat(
            [
                self.readout.scores(self.inputs_of(self._counts(images, some, number)))
                for some in np.split(rows, range(STEP, len(rows), STEP))
            ]
        )
        found = readout.of_pairs(found, self.params.pairs_of) if self.params.pairs_of else found
        return self.of_labels(found)

    def spikes(self, images: TaskImages) -> dict[str, float]:
        """Mean spikes per image in each layer that the readout needs."""
        spikes = self._features(images).spikes
        return {name: spikes[name] for name in self._upto(self.views).names}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything learned: all tensors, and plain data with the generator's state."""
        return self.state_dict(), {x: getattr(self, x) for x in self.remembered} | self._place()

    def load(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.load_state_dict(tensors)
        for name in self.remembered:
            setattr(self, name, plain[name])
        self._go_on(plain)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What :meth:`scores` needs; smaller than the state where learning needs more."""
        answers = {"readout": self.readout.snapshot(), "standards": self.standards.state_dict()}
        return self._frozen() | _joined(answers), self._place()

    def load_snapshot(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Answer as at the time of :meth:`snapshot`, without learning on."""
        self._load_frozen(tensors, plain)
        self.standards.load_state_dict(checkpoint.part(tensors, "standards"))
        self.readout = self.readout.recall(checkpoint.part(tensors, "readout"))

    # ---- what is frozen, made once

    def _prepare_filters(self, images: TaskImages) -> None:
        """Filters and thresholds, made once for all trials that need the same."""
        p = self.params
        other = {name for name, group in p.groups.items() if group.compute or group.late}
        origin = (
            p.model_dump_json(exclude=other), p.presentation, p.batch_size, self.used.names,
            images.fingerprint, images.task, self.generator.bit_generator.state,
        )  # fmt: skip
        name = hashlib.sha256(repr(origin).encode()).hexdigest()[:16]
        path = paths.data() / "features" / f"filters-{name}.safetensors"
        with lock(path.with_suffix(".lock")):
            if kept := checkpoint.kept(path):
                self._load_frozen(*kept)
            else:
                self.filters.make(images, self.used, memory.at_once(p))
                checkpoint.save(path, self._frozen(), self._place())

    def _frozen(self) -> dict[str, Tensor]:
        """The tensors that answer, but for the readout's."""
        return _joined({name: self.get_submodule(name).state_dict() for name in self.answering})

    def _load_frozen(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        for name in self.answering:
            self.get_submodule(name).load_state_dict(checkpoint.part(tensors, name))
        self._go_on(plain)

    def _place(self) -> dict[str, Any]:
        return {"generator": self.generator.bit_generator.state}

    def _go_on(self, plain: dict[str, Any]) -> None:
        self.generator.bit_generator.state = plain["generator"]
        self._cache.clear()

    def _features(self, images: TaskImages, number: int = 0) -> features.Features:
        """Spike counts of a frozen network on all images or the first ``number``."""
        key = (images.fingerprint, images.task.frame_rate_hz, images.task.duration_ms, number)
        if key not in self._cache:
            p = self.params
            options = p.presentation, p.backend, self.device, number, p.keep_features
            self._cache[key] = features.compute(
                self.network, images, self.computed, *options, memory.at_once(p)
            )
        return self._cache[key]

    def _counts(self, images: TaskImages, rows: np.ndarray, number: int = 0) -> dict[str, Tensor]:
        """What the readout sees of some images, out of all or the first ``number``."""
        counts = self._features(images, number).counts
        return {
            view: torch.from_numpy(counts[view][rows].astype(np.float32)) for view in self.views
        }

    def rates(self, images: TaskImages, number: int = 0) -> dict[str, np.ndarray]:
        """Mean crossings per neuron and step of each compartment, per layer."""
        return self._features(images, number).rates

    # ---- what the readout sees, and what its columns mean

    @property
    def computed(self) -> list[str]:
        """Views whose counts are computed, and kept for all methods with this network."""
        last = f"dense{len(self.params.hidden)}"
        return [last if name == "dense" else name for name in self.params.readout_layers]

    @classmethod
    def sees(cls, computed: list[str]) -> list[str]:
        """Which of these views the readout sees: here all."""
        return computed

    @property
    def views(self) -> list[str]:
        """Views that the readout sees."""
        return self.sees(self.computed)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of values of each view."""
        return {view: features.size(self.network, view) for view in self.views}

    @property
    def used(self) -> Network:
        """The layers up to the deepest one that the readout sees; all, if filters always learn."""
        return self.network if self.filters.online else self._upto(self.computed)

    def _upto(self, views: list[str]) -> Network:
        seen = [features.split(view)[0] for view in views]
        return self.network.upto(max(seen, key=self.network.names.index))

    def seen(self, activity: Activity) -> dict[str, Tensor]:
        """What the readout sees of a pass: counts [B, values] by view."""
        return {
            view: features.view_counts(activity.counts[features.split(view)[0]].cpu(), view)
            for view in self.views
        }

    def inputs_of(self, counts: dict[str, Tensor]) -> Tensor:
        """Readout inputs of a batch, float64 [B, F + 1]."""
        p = self.params
        views = [counts[name] for name in self.views]
        standards = [self.standards[name] for name in self.views if p.standardise_counts]
        return readout.features(views, p.normalise_counts, p.root_counts, standards)

    def new_readout(self) -> readout.Readout:
        """The readout, before it has learned anything."""
        inputs = 1 + sum(self.sizes.values())
        made = readout.READOUTS[self.params.readout](inputs, self.classes, self.params)
        made.arrange([features.shape(self.network, view) for view in self.views])
        return made

    def columns(self, labels: Sequence[int] | np.ndarray) -> np.ndarray:
        """Columns of the readout for labels, int64: it has none for labels of no task."""
        return np.searchsorted(self.labels, labels)

    def of_labels(self, scores: Tensor) -> Tensor:
        """Scores [N, classes] in columns of labels [N, 1 + largest label], 0 for those between."""
        if self.labels[-1] + 1 == self.classes:
            return scores
        wide = scores.new_zeros(len(scores), self.labels[-1] + 1)
        wide[:, self.labels] = scores
        return wide


def _joined(states: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors by the names of their modules and their own."""
    return {f"{name}.{key}": x for name, state in states.items() for key, x in state.items()}
