"""What every method offers to the continual loop, and the spiking learner that most of them are."""

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from ltgate import backends, checkpoint, features, fixed_point, memory, paths
from ltgate.backends import Activity
from ltgate.data.sources import source
from ltgate.data.store import Batch, TaskImages
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.files import lock
from ltgate.network import KERNEL, Layer, Network
from ltgate.network import create as create_network
from ltgate.neurons import Dynamics
from ltgate.plasticity import competitive, hebbian, homeostasis, readout
from ltgate.plasticity.gate import VarianceGate
from ltgate.plasticity.projector import RankOne, Subspace, patches
from ltgate.plasticity.prototypes import Prototypes
from ltgate.progress import track
from ltgate.stages import stage

if TYPE_CHECKING:
    from ltgate.params import Params

# Parameters that filters learned before the first task's pass do not depend on, beside those of
# computing.
_NOT_OF_FILTERS = {
    "readout", "normalise_counts", "root_counts", "readout_rate", "readout_l2", "ridge",
    "prototypes", "replay_bytes", "projector", "projector_rank", "eta_v", "tasks", "epochs",
    "curve_points", "validation_images", "test_images",
}  # fmt: skip


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


class SpikingLearner:
    """Filters that learn by local rules under a readout that learns from spike counts.

    What the parameters choose: filters random, learned on the first task and then frozen, or
    learned in every batch; gate; projector; readout and the layers that it reads.
    """

    preset: ClassVar[dict[str, Any]] = {}

    def __init__(self, params: "Params", generator: np.random.Generator) -> None:
        p = self.params = params
        self.generator = generator
        self.device = backends.device(p.device)
        taus = {
            "dual": (p.tau_fast_ms, p.tau_slow_ms),
            "fast": (p.tau_fast_ms,),
            "slow": (p.tau_slow_ms,),
        }[p.compartments]
        if p.chip_aware:
            taus = tuple(fixed_point.effective_tau(tau) for tau in taus)
        self.network = create_network(
            Dynamics(taus, p.output, p.current, p.reset),
            p.channels,
            p.strides,
            p.hidden,
            generator,
            source(p.source, p.data_folder).image_shape,
            threshold=p.threshold,
            gate=p.gamma,
            weight_scale=p.weight_scale,
        )
        if p.balanced:
            for layer in self.network.layers:
                layer.weight = p.weight_scale * competitive.balance(layer.weight)
        self.network.to(self.device)
        layers = self.network.layers
        if p.chip_aware:
            for layer in layers:
                layer.bits = p.chip_bits
        self.gates = {layer.name: VarianceGate.create(layer.out_shape[0]) for layer in layers}
        compartments = self.network.dynamics.compartments
        self.vectors = {
            layer.name: RankOne.create(compartments, layer.out_shape[0], generator)
            for layer in layers
        }
        self.subspaces = {
            layer.name: Subspace.create(layer.weight[0, 0].numel())
            for layer in layers
            if p.projector == "rankk" and p.filters == "always"
        }
        self.classes = 1 + max(label for task in p.tasks for label in task.classes)
        self.readout = self._new_readout()
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

    def end_task(self, position: int) -> None:
        """With projector ``rankk``, later updates avoid what this task used."""
        subspaces = list(self.subspaces.values())
        if isinstance(self.readout, readout.Delta) and self.readout.subspace is not None:
            subspaces.append(self.readout.subspace)
        for subspace in subspaces:
            subspace.extend(self.params.projector_rank)

    def learn(self, images: TaskImages, batch: Batch) -> None:
        """One batch: filters (if they never freeze), then the readout."""
        if self.params.filters == "always":
            counts = self._learn_filters_on(images, batch.images)
        else:
            counts = self._counts(images, batch.indices)
        labels = torch.as_tensor(batch.labels)
        inputs = self._inputs_of(counts)
        with stage("readout"):
            self.readout.learn(inputs, labels, list(images.task.classes))

    def scores(self, images: TaskImages, number: int = 0) -> Tensor:
        """Readout's scores."""
        rows = np.arange(min(number or len(images), len(images)))
        return torch.cat(
            [
                self.readout.scores(self._inputs_of(self._counts(images, rows[part], number)))
                for part in _slices(len(rows), features.LARGE_BATCH * 4)
            ]
        )

    def spikes(self, images: TaskImages) -> dict[str, float]:
        """Mean spikes per image in each layer that the readout needs."""
        spikes = self._features(images).spikes
        return {name: spikes[name] for name in self._upto(self._read).names}

    def rates(self, images: TaskImages, number: int = 0) -> dict[str, np.ndarray]:
        """Mean crossings per neuron and step of each compartment, per layer."""
        return self._features(images, number).rates

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Network, gates, projector vectors, readout; the generator's state."""
        tensors, plain = self._filters_state()
        tensors |= {f"readout.{k}": v for k, v in self.readout.state().items()}
        for name, subspace in self.subspaces.items():
            tensors |= {f"subspace.{name}.{k}": v for k, v in subspace.state().items()}
        return tensors, plain

    def load(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self._load_filters(tensors, plain)
        self.readout.load(_part(tensors, "readout"))
        for name, subspace in self.subspaces.items():
            subspace.load(_part(tensors, f"subspace.{name}"))

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Filters and what the readout answers with."""
        tensors, plain = self._filters_state()
        answers = {f"readout.{name}": value for name, value in self.readout.snapshot().items()}
        return tensors | answers, plain

    def load_snapshot(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Filters and a readout that no longer learns."""
        self._load_filters(tensors, plain)
        self.readout = self.readout.recall(_part(tensors, "readout"))

    def _filters_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"network.{k}": v for k, v in self.network.state().items()}
        tensors |= {f"gate.{k}": v.variance for k, v in self.gates.items()}
        tensors |= {f"vector.{k}": v.vector for k, v in self.vectors.items()}
        return tensors, {"generator": self.generator.bit_generator.state}

    def _load_filters(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        self.network.load(_part(tensors, "network"))
        for name in self.gates:
            self.gates[name].variance = tensors[f"gate.{name}"]
            self.vectors[name].vector = tensors[f"vector.{name}"]
        self.generator.bit_generator.state = plain["generator"]
        self._cache.clear()

    # ---- filters

    def _prepare_filters(self, images: TaskImages) -> None:
        """:meth:`_make_filters`, once for all trials that need the same filters."""
        computing = {name for name, group in self.params.groups.items() if group.compute}
        values = self.params.model_dump_json(exclude=_NOT_OF_FILTERS | computing)
        origin = (
            f"{values}/{images.fingerprint}/{images.task!r}/{self.generator.bit_generator.state}"
        )
        name = hashlib.sha256(origin.encode()).hexdigest()[:16]
        path = paths.data() / "features" / f"filters-{name}.safetensors"
        with lock(path.with_suffix(".lock")):
            if path.exists():
                tensors, plain = checkpoint.load(path)
                self._load_filters(tensors, plain)
            else:
                self._make_filters(images)
                checkpoint.save(path, *self._filters_state())

    def _make_filters(self, images: TaskImages) -> None:
        """Layer by layer on the first task: learn the filters (if wanted), set the thresholds."""
        p = self.params
        number = min(p.hebbian_images or len(images), len(images))
        for index, layer in enumerate(track(self._used.layers, label="filters and thresholds")):
            if p.filters == "first":
                inputs = self._inputs(index, images, images.images[:number])
                layer.weight = competitive.learn(
                    layer, inputs, p.eta_filters, p.filter_passes, self.generator
                ).to(layer.weight)
            activity = self._calibrate(layer, images)
            if p.gate != "fixed" and self.network.dynamics.compartments == 2:
                self._observe_gate(layer, activity, rate=1.0)
                if self.network.dynamics.blended:  # the gate changed the neuron
                    self._calibrate(layer, images)

    def _calibrate(self, layer: Layer, images: TaskImages) -> Activity:
        """Thresholds of one layer to the target rate on the first task's first images."""
        p = self.params
        shown = images.images[: p.calibration_batches * p.batch_size]
        return homeostasis.calibrate(
            self.network,
            layer,
            lambda network: self._forward(network, images.task, shown),
            target=p.target_rate,
            scope=p.threshold_scope,
            iterations=p.calibration_iterations,
            tolerance=p.calibration_tolerance,
            bounds=(p.threshold_lowest, p.threshold_highest),
        )

    def _observe_gate(self, layer: Layer, activity: Activity, rate: float) -> None:
        """Take a batch's activity into the running variances; set the layer's gates."""
        gate = self.gates[layer.name]
        positions = layer.out_shape[1] * layer.out_shape[2]
        gate.observe(activity.crossings[layer.name], activity.steps, positions, rate)
        layer.gate = gate.gamma(self.params.gate).to(layer.gate)

    def _inputs(self, index: int, images: TaskImages, pixels: np.ndarray) -> Tensor:
        """What layer ``index`` receives: pixel currents or spike counts [N, in, height, width]."""
        if index == 0:
            return self.network.pixels(pixels).cpu()
        before = self.network.layers[index - 1].name
        parts = [
            self._forward(self.network.upto(before), images.task, pixels[rows]).counts[before]
            for rows in _slices(len(pixels), memory.at_once(self.params))
        ]
        return torch.cat(parts).cpu()

    def _learn_filters_on(self, images: TaskImages, pixels: np.ndarray) -> dict[str, Tensor]:
        """One local update of all layers; what the readout sees of the pass that led to it."""
        compartments = self.network.dynamics.compartments
        decay = np.full(compartments, self.params.trace_decay, np.float32)
        with stage("forward pass and local update"):
            activity = self._forward(self.network, images.task, pixels, trace_decay=decay)
        inputs = self.network.pixels(pixels).cpu()
        for layer in self.network.layers:
            self._update(layer, activity, inputs)
            inputs = activity.counts[layer.name].float().cpu()
        self._cache.clear()
        return self._views(activity)

    @stage("weight update")
    def _update(self, layer: Layer, activity: Activity, inputs: Tensor) -> None:
        """One step of a layer, whose ``inputs`` [N, in, height, width] the projector may need."""
        p = self.params
        correlation = activity.updates[layer.name]
        mask = self._mask(layer, activity)
        vector = self.vectors[layer.name]
        if p.projector == "rank1":
            raw = correlation / (len(activity.counts[layer.name]) * activity.steps)
            correlation = vector.project(correlation.cpu()).to(correlation)
            vector.observe(raw.cpu(), p.eta_v)
        elif p.projector == "rankk":
            subspace = self.subspaces[layer.name]
            flat = subspace.project(correlation.flatten(2).cpu())
            correlation = flat.reshape(correlation.shape).to(correlation)
            subspace.observe(patches(inputs, KERNEL, layer.stride))
        layer.weight = hebbian.update(layer.weight, correlation, p.eta, mask)

    def _mask(self, layer: Layer, activity: Activity) -> Tensor | None:
        """Masks [C, out] of the gate on the update of a layer."""
        if self.network.dynamics.compartments == 1:
            return None
        if self.params.gate != "fixed":
            self._observe_gate(layer, activity, self.params.variance_lambda)
        return torch.stack([layer.gate, 1 - layer.gate])

    # ---- forward passes

    def _forward(
        self, network: Network, task: TaskSpec, pixels: np.ndarray, **options: Any
    ) -> Activity:
        steps = schedule(task, self.params.presentation)
        return backends.forward(
            network, pixels, steps, backend=self.params.backend, device=self.device, **options
        )

    def _features(self, images: TaskImages, number: int = 0) -> features.Features:
        key = (images.fingerprint, images.task.frame_rate_hz, images.task.duration_ms, number)
        if key not in self._cache:
            p = self.params
            self._cache[key] = features.compute(
                self.network,
                images,
                self._computed,
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
            view: torch.from_numpy(counts[view][rows].astype(np.float32)) for view in self._read
        }

    def _views(self, activity: Activity) -> dict[str, Tensor]:
        """What the readout sees of a pass."""
        return {
            view: features.view_counts(activity.counts[features.split(view)[0]].cpu(), view)
            for view in self._read
        }

    def _inputs_of(self, counts: dict[str, Tensor]) -> Tensor:
        """Readout inputs of a batch."""
        p = self.params
        views = [counts[name] for name in self._read]
        return readout.features(views, p.normalise_counts, p.root_counts)

    @property
    def _used(self) -> Network:
        """The layers up to the deepest one that the readout sees; all, if filters always learn."""
        if self.params.filters == "always":
            return self.network
        return self._upto(self._computed)

    def _upto(self, views: list[str]) -> Network:
        seen = [features.split(view)[0] for view in views]
        return self.network.upto(max(seen, key=self.network.names.index))

    @property
    def _computed(self) -> list[str]:
        """Views whose counts are computed, and kept for all methods with this network."""
        last = f"dense{len(self.params.hidden)}"
        return [last if name == "dense" else name for name in self.params.readout_layers]

    @property
    def _read(self) -> list[str]:
        """Views that the readout sees."""
        return self._computed

    def _new_readout(self) -> readout.Readout:
        p = self.params
        inputs = 1 + sum(features.size(self.network, view) for view in self._read)
        if p.readout == "rls":
            return readout.RecursiveLeastSquares.create(inputs, self.classes, p.ridge)
        if p.readout == "prototypes":
            return Prototypes.create(inputs, self.classes, p.prototypes)
        current_only = p.readout == "delta_current"
        projected = p.projector == "rankk"
        return readout.Delta.create(
            inputs, self.classes, p.readout_rate, p.readout_l2, current_only, projected
        )


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors called ``name.*``, without that prefix."""
    start = f"{name}."
    return {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]
