"""What every method offers to the continual loop, and the spiking learner that most of them are."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ltgate import backends, checkpoint, features, fixed_point, memory, paths
from ltgate.backends import Activity
from ltgate.data import sources
from ltgate.data.store import Batch, TaskImages
from ltgate.files import lock
from ltgate.network import Network, wire
from ltgate.network import create as create_network
from ltgate.neurons import Dynamics
from ltgate.plasticity import competitive, readout
from ltgate.plasticity.filters import FILTERS
from ltgate.registry import Registry
from ltgate.stages import stage
from ltgate.state import Tensors

if TYPE_CHECKING:
    from ltgate.params import Params

METHODS = Registry()  # name -> class of the kind Method
STEP = features.LARGE_BATCH * 4  # images that the readout scores at once


class Method(Protocol):
    """A continual learner. The loop in :mod:`ltgate.train` calls nothing else."""

    preset: ClassVar[dict[str, Any]]

    def __init__(self, params: "Params", generator: np.random.Generator) -> None:
        """A learner that has seen nothing."""

    @classmethod
    def configure(cls, params: "Params") -> "Params":
        """``params`` with what defines this method put over them."""

    def curriculum(self, position: int) -> list[int]:
        """Positions of the tasks whose training images are shown at this point of the sequence."""

    def begin_task(self, position: int, images: TaskImages) -> None:
        """Called before the first batch of task ``position`` with its training images."""

    def learn(self, images: TaskImages, batch: Batch) -> None:
        """Take in one training batch of ``images``."""

    def end_task(self, position: int) -> None:
        """Called after the last batch of task ``position``."""

    def scores(self, images: TaskImages, number: int = 0) -> Tensor:
        """Class scores, float64 [N, classes], of all images or the first ``number``."""

    def spikes(self, images: TaskImages) -> dict[str, float]:
        """Mean spikes per image in each layer."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything learned: tensors and plain data."""

    def load(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What :meth:`scores` needs; smaller than the state where learning needs more."""

    def load_snapshot(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Answer as at the time of :meth:`snapshot`, without learning on."""


class SpikingLearner(nn.Module):
    """Filters that learn by local rules under a readout that learns from spike counts.

    What the parameters choose: filters random, learned on the first task and then frozen, or
    learned in every batch; gate; projector; readout and the layers that it reads.

    Attributes:
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
        taus = (
            tuple(p.taus_ms)
            or {
                "dual": (p.tau_fast_ms, p.tau_slow_ms),
                "fast": (p.tau_fast_ms,),
                "slow": (p.tau_slow_ms,),
            }[p.compartments]
        )
        if p.chip_aware:
            taus = tuple(fixed_point.effective_tau(tau) for tau in taus)
        self.network = create_network(
            Dynamics(taus, p.output, p.current, p.reset, p.follows),
            p.channels,
            p.strides,
            p.hidden,
            generator,
            sources.of(p).image_shape,
            threshold=p.threshold,
            gate=p.gamma,
            weight_scale=p.weight_scale,
        )
        if p.balanced:
            for layer in self.network.layers:
                layer.weight = p.weight_scale * competitive.balance(layer.weight)
        first = self.network.layers[0]
        if p.fan_in:
            wire(first, p.fan_in, p.fan_in_groups, generator)
        if p.same_weights:
            for layer in self.network.layers:
                layer.weight = layer.weight[:1].expand_as(layer.weight).clone()
        self.network.to(self.device)
        if p.chip_aware:
            for layer in self.network.layers:
                layer.bits = p.chip_bits
        self.filters = FILTERS[p.filters](self.network, p, generator, self.device)
        self.labels = np.unique([label for task in p.tasks for label in task.classes])
        self.classes = len(self.labels)
        self.readout = self.new_readout()
        seen = self.views if p.standardise_counts else ()
        none = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # mean and standard deviation
        self.standards = Tensors(
            **{view: none.repeat(1, features.size(self.network, view)) for view in seen}
        )
        self._cache: dict[tuple, features.Features] = {}

    @classmethod
    def configure(cls, params: "Params") -> "Params":
        """``params`` under the method's preset."""
        return params.with_(**cls.preset)

    def curriculum(self, position: int) -> list[int]:
        """Only the task itself: nothing is replayed."""
        return [position]

    def begin_task(self, position: int, images: TaskImages) -> None:
        """On the first task the filters are learned, if wanted, and thresholds calibrated."""
        if position == 0:
            self._prepare_filters(images)
            if self.params.standardise_counts:
                counts = self._counts(images, np.arange(len(images)))
                rooted = self.params.root_counts
                for view, seen in counts.items():
                    seen = readout.root(seen) if rooted else seen
                    self.standards[view] = readout.standard(seen)

    def end_task(self, position: int) -> None:
        """With projector ``rankk``, later updates avoid what this task used."""
        self.filters.end_task()
        self.readout.end_task(self.params)

    def learn(self, images: TaskImages, batch: Batch) -> None:
        """One batch: filters (if they never freeze), then the readout."""
        if self.filters.online:
            counts = self.seen(self.filters.learn(images.task, batch.images))
            self._cache.clear()
        else:
            counts = self._counts(images, batch.indices)
        labels = torch.as_tensor(self.columns(batch.labels))
        inputs = self.inputs_of(counts)
        with stage("readout"):
            self.readout.learn(inputs, labels, self.columns(images.task.classes).tolist())

    def scores(self, images: TaskImages, number: int = 0) -> Tensor:
        """Readout's scores."""
        rows = np.arange(min(number or len(images), len(images)))
        found = torch.cat(
            [
                self.readout.scores(self.inputs_of(self._counts(images, some, number)))
                for some in np.split(rows, range(STEP, len(rows), STEP))
            ]
        )
        found = readout.of_pairs(found, self.params.pairs_of) if self.params.pairs_of else found
        return self.of_labels(found)

    def columns(self, labels: Sequence[int] | np.ndarray) -> np.ndarray:
        """Columns of the readout for labels, int64: it has none for labels of no task."""
        return np.searchsorted(self.labels, labels)

    def of_labels(self, scores: Tensor) -> Tensor:
        """Scores [N, classes] of the readout's columns in columns of labels, 0 for those between.

        [N, 1 + largest label].
        """
        if self.labels[-1] + 1 == self.classes:
            return scores
        wide = scores.new_zeros(len(scores), self.labels[-1] + 1)
        wide[:, self.labels] = scores
        return wide

    def spikes(self, images: TaskImages) -> dict[str, float]:
        """Mean spikes per image in each layer that the readout needs."""
        spikes = self._features(images).spikes
        return {name: spikes[name] for name in self._upto(self.views).names}

    def rates(self, images: TaskImages, number: int = 0) -> dict[str, np.ndarray]:
        """Mean crossings per neuron and step of each compartment, per layer."""
        return self._features(images, number).rates

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All tensors; what is ``remembered``, and the generator's state."""
        return self.state_dict(), {x: getattr(self, x) for x in self.remembered} | self._place()

    def load(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.load_state_dict(tensors)
        for name in self.remembered:
            setattr(self, name, plain[name])
        self._go_on(plain)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Filters and what the readout answers with."""
        answers = {f"readout.{name}": value for name, value in self.readout.snapshot().items()}
        answers |= {
            f"standards.{name}": value for name, value in self.standards.state_dict().items()
        }
        return self._frozen() | answers, self._place()

    def load_snapshot(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Filters and a readout that no longer learns."""
        self._load_frozen(tensors, plain)
        self.standards.load_state_dict(checkpoint.part(tensors, "standards"))
        self.readout = self.readout.recall(checkpoint.part(tensors, "readout"))

    def _frozen(self) -> dict[str, Tensor]:
        """The tensors that answer, but for the readout's."""
        modules = {name: self.get_submodule(name).state_dict() for name in self.answering}
        return {f"{name}.{key}": x for name, state in modules.items() for key, x in state.items()}

    def _load_frozen(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        for name in self.answering:
            self.get_submodule(name).load_state_dict(checkpoint.part(tensors, name))
        self._go_on(plain)

    def _place(self) -> dict[str, Any]:
        return {"generator": self.generator.bit_generator.state}

    def _go_on(self, plain: dict[str, Any]) -> None:
        self.generator.bit_generator.state = plain["generator"]
        self._cache.clear()

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
            if path.exists():
                self._load_frozen(*checkpoint.load(path))
            else:
                self.filters.make(images, self.used, memory.at_once(p))
                checkpoint.save(path, self._frozen(), self._place())

    def _features(self, images: TaskImages, number: int = 0) -> features.Features:
        key = (images.fingerprint, images.task.frame_rate_hz, images.task.duration_ms, number)
        if key not in self._cache:
            p = self.params
            self._cache[key] = features.compute(
                self.network,
                images,
                self.computed,
                p.presentation,
                p.backend,
                self.device,
                number,
                p.keep_features,
                memory.at_once(p),
            )
        return self._cache[key]

    def _counts(self, images: TaskImages, rows: np.ndarray, number: int = 0) -> dict[str, Tensor]:
        """What the readout sees of some images, out of all or the first ``number``."""
        counts = self._features(images, number).counts
        return {
            view: torch.from_numpy(counts[view][rows].astype(np.float32)) for view in self.views
        }

    # ---- what the readout sees

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

    @property
    def used(self) -> Network:
        """The layers up to the deepest one that the readout sees; all, if filters always learn."""
        return self.network if self.filters.online else self._upto(self.computed)

    def _upto(self, views: list[str]) -> Network:
        seen = [features.split(view)[0] for view in views]
        return self.network.upto(max(seen, key=self.network.names.index))

    @property
    def computed(self) -> list[str]:
        """Views whose counts are computed, and kept for all methods with this network."""
        last = f"dense{len(self.params.hidden)}"
        return [last if name == "dense" else name for name in self.params.readout_layers]

    @property
    def views(self) -> list[str]:
        """Views that the readout sees."""
        return self.computed

    def new_readout(self) -> readout.Readout:
        """The readout, before it has learned anything."""
        inputs = 1 + sum(features.size(self.network, view) for view in self.views)
        return readout.READOUTS[self.params.readout].configured(inputs, self.classes, self.params)
