"""What every method offers to the continual loop, and the spiking learner that most of them are."""

from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from ltgate import backends, features
from ltgate.backends import Activity
from ltgate.data.store import Batch, TaskImages
from ltgate.data.tasks import schedule
from ltgate.network import Layer, Network
from ltgate.network import create as create_network
from ltgate.neurons import Dynamics
from ltgate.params import Params
from ltgate.plasticity import hebbian, homeostasis, readout
from ltgate.plasticity.gate import VarianceGate
from ltgate.plasticity.projector import RankOne, Subspace
from ltgate.progress import track


class Method(Protocol):
    """A continual learner. The loop in :mod:`ltgate.train` calls nothing else."""

    preset: ClassVar[dict[str, Any]]

    def __init__(self, params: Params, generator: np.random.Generator) -> None:
        """A learner that has seen nothing."""

    @classmethod
    def configure(cls, params: Params) -> Params:
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


class SpikingLearner:
    """Filters that learn by local rules under a readout that learns from spike counts.

    What the parameters choose: filters random, learned on the first task and then frozen, or
    learned in every batch; gate; projector; readout and the layers that it reads.
    """

    preset: ClassVar[dict[str, Any]] = {}

    def __init__(self, params: Params, generator: np.random.Generator) -> None:
        p = self.params = params
        self.generator = generator
        self.device = _device(p.device)
        taus = {
            "dual": (p.tau_fast_ms, p.tau_slow_ms),
            "fast": (p.tau_fast_ms,),
            "slow": (p.tau_slow_ms,),
        }[p.compartments]
        self.network = create_network(
            Dynamics(taus, p.output, p.current, p.reset),
            p.channels,
            p.strides,
            p.hidden,
            generator,
            threshold=p.threshold,
            gate=p.gamma,
            weight_scale=p.weight_scale,
        )
        self.network.load({k: v.to(self.device) for k, v in self.network.state().items()})
        layers = self.network.layers
        self.gates = {layer.name: VarianceGate.create(layer.out_shape[0]) for layer in layers}
        compartments = self.network.dynamics.compartments
        self.vectors = {
            layer.name: RankOne.create(compartments, layer.out_shape[0], generator)
            for layer in layers
        }
        self.classes = 1 + max(label for task in p.tasks for label in task.classes)
        self.readout = self._new_readout()
        self._cache: dict[tuple, features.Features] = {}

    @classmethod
    def configure(cls, params: Params) -> Params:
        """``params`` under the method's preset."""
        return params.with_(**cls.preset)

    def curriculum(self, position: int) -> list[int]:
        """Only the task itself: nothing is replayed."""
        return [position]

    def begin_task(self, position: int, images: TaskImages) -> None:
        """On the first task thresholds are calibrated and, if wanted, the filters are learned."""
        if position > 0:
            return
        self.calibrate(images)
        if self.params.filters == "first":
            self.learn_filters(images)

    def end_task(self, position: int) -> None:
        """Nothing to do."""

    def learn(self, images: TaskImages, batch: Batch) -> None:
        """One batch: filters (if they never freeze), then the readout."""
        if self.params.filters == "always":
            counts = self._learn_filters_on(images, batch.images)
        else:
            made = self._features(images)
            counts = {name: _tensor(made.counts[name][batch.indices]) for name in self._read}
        labels = torch.as_tensor(batch.labels)
        inputs = readout.features([counts[name] for name in self._read])
        self.readout.learn(inputs, labels, list(images.task.classes))

    def scores(self, images: TaskImages, number: int = 0) -> Tensor:
        """Readout's scores."""
        weight = self.readout.weight
        made = self._features(images, number)
        return torch.cat(
            [
                readout.features([_tensor(made.counts[n][rows]) for n in self._read]) @ weight
                for rows in _slices(len(made.counts[self._read[0]]), 1024)
            ]
        )

    def spikes(self, images: TaskImages) -> dict[str, float]:
        """Mean spikes per image in each layer that the readout needs."""
        return self._features(images).spikes

    def rates(self, images: TaskImages, number: int = 0) -> dict[str, np.ndarray]:
        """Mean crossings per neuron and step of each compartment, per layer."""
        return self._features(images, number).rates

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Network, gates, projector vectors, readout; the generator's state."""
        tensors = {f"network.{k}": v for k, v in self.network.state().items()}
        tensors |= {f"gate.{k}": v.variance for k, v in self.gates.items()}
        tensors |= {f"vector.{k}": v.vector for k, v in self.vectors.items()}
        tensors |= {f"readout.{k}": v for k, v in self.readout.state().items()}
        return tensors, {"generator": self.generator.bit_generator.state}

    def load(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.network.load({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
        for name in self.gates:
            self.gates[name].variance = tensors[f"gate.{name}"]
            self.vectors[name].vector = tensors[f"vector.{name}"]
        self.readout.load({k[8:]: v for k, v in tensors.items() if k.startswith("readout.")})
        self.generator.bit_generator.state = plain["generator"]
        self._cache.clear()

    # ---- filters

    def calibrate(self, images: TaskImages) -> dict[str, float]:
        """Thresholds to the target rate on the first training images of the first task."""
        p = self.params
        shown = images.images[: p.calibration_batches * p.batch_size]
        return homeostasis.calibrate(
            self.network,
            lambda network: self._forward(network, images, shown),
            target=p.target_rate,
            scope=p.threshold_scope,
            iterations=p.calibration_iterations,
            tolerance=p.calibration_tolerance,
            bounds=(p.threshold_lowest, p.threshold_highest),
        )

    def learn_filters(self, images: TaskImages) -> None:
        """Local learning on the first ``hebbian_images`` of the first task, then calibration."""
        p = self.params
        total = min(p.hebbian_images, len(images)) if p.hebbian_images else len(images)
        starts = range(0, total, p.batch_size)
        for start in track(starts, label="local learning of the filters"):
            self._learn_filters_on(images, images.images[start : start + p.batch_size])
        self._cache.clear()
        self.calibrate(images)

    def _learn_filters_on(self, images: TaskImages, pixels: np.ndarray) -> dict[str, Tensor]:
        """One local update of all layers; what the readout sees of the pass that led to it."""
        compartments = self.network.dynamics.compartments
        decay = np.full(compartments, self.params.trace_decay, np.float32)
        activity = self._forward(self.network, images, pixels, trace_decay=decay)
        for layer in self.network.layers:
            self._update(layer, activity)
        self._cache.clear()
        return {
            view: features.view_counts(activity.counts[features.split(view)[0]].cpu(), view)
            for view in self._read
        }

    def _update(self, layer: Layer, activity: Activity) -> None:
        p = self.params
        correlation = activity.updates[layer.name]
        mask = self._gate(layer, activity)
        vector = self.vectors[layer.name]
        if p.projector == "rank1":
            raw = correlation / (len(activity.counts[layer.name]) * activity.steps)
            correlation = vector.project(correlation.cpu()).to(correlation)
            vector.observe(raw.cpu(), p.eta_v)
        layer.weight = hebbian.update(layer.weight, correlation, p.eta, mask)

    def _gate(self, layer: Layer, activity: Activity) -> Tensor | None:
        """Masks [C, out] on the update; with output ``blend`` also the neuron's gamma."""
        p = self.params
        if self.network.dynamics.compartments == 1:
            return None
        gamma = torch.full((layer.out_shape[0],), p.gamma)
        if p.gate != "fixed":
            gate = self.gates[layer.name]
            positions = layer.out_shape[1] * layer.out_shape[2]
            gate.observe(
                activity.crossings[layer.name], activity.steps, positions, p.variance_lambda
            )
            gamma = gate.gamma(p.gate)
        layer.gate = gamma.to(layer.gate)
        return torch.stack([layer.gate, 1 - layer.gate])

    # ---- forward passes

    def _forward(self, network: Network, images: TaskImages, pixels, **options) -> Activity:
        steps = schedule(images.task, self.params.presentation)
        return backends.forward(
            network, pixels, steps, backend=self.params.backend, device=self.device, **options
        )

    def _features(self, images: TaskImages, number: int = 0) -> features.Features:
        key = (images.fingerprint, images.task.frame_rate_hz, images.task.duration_ms, number)
        if key not in self._cache:
            p = self.params
            self._cache[key] = features.compute(
                self.network, images, self._read, p.presentation, p.backend, self.device, number
            )
        return self._cache[key]

    @property
    def _read(self) -> list[str]:
        last = f"dense{len(self.params.hidden)}"
        return [last if name == "dense" else name for name in self.params.readout_layers]

    def _new_readout(self) -> readout.Readout:
        p = self.params
        inputs = 1 + sum(features.size(self.network, view) for view in self._read)
        if p.readout == "rls":
            return readout.RecursiveLeastSquares.create(inputs, self.classes, p.ridge)
        current_only = p.readout == "delta_current"
        return readout.Delta.create(
            inputs, self.classes, p.readout_rate, p.readout_l2, current_only
        )


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _tensor(counts: np.ndarray) -> Tensor:
    return torch.from_numpy(counts.astype(np.float32))


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]
