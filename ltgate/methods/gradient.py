r"""What methods trained by surrogate gradients share, and their optimiser.

Adam (Kingma & Ba 2015) divides every entry of a weight tensor by its own size, and so turns a step
away from the gradient; a projected gradient would leave its subspace. Here all weights of a neuron
share the second moment (blocks like those of Adam-mini, Zhang et al. 2024): a neuron's step lies
along the running mean of its gradients. With gradient g of step t, b1 = 0.9, b2 = 0.999 and
eps = 1e-8::

    m <- b1 m + (1 - b1) g        q <- b2 q + (1 - b2) mean over the neuron's inputs of g^2
    step = m / (1 - b1^t) / (sqrt(q / (1 - b2^t)) + eps)
"""

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ltgate import features
from ltgate.data.store import Batch, TaskImages
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.declare import Count, Group, Positive
from ltgate.errors import NotFinite, UserError
from ltgate.methods.base import SpikingLearner
from ltgate.neurons import COMPILED
from ltgate.plasticity import readout
from ltgate.progress import track
from ltgate.state import Tensors
from ltgate.surrogate import LinearHead, loss_and_gradients

if TYPE_CHECKING:
    from ltgate.params import Params

READOUT = "readout"  # the readout's name among those of the layers
MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8


class GradientParameters(Group, late=True):
    """Methods trained by surrogate gradients."""

    gradient_rate: Positive = 0.002
    """Adam rate of the layers' weights"""
    gradient_slope: Positive = 10.0
    """steepness of the surrogate derivative"""
    gradient_batch: Count = 8
    """images per step; a batch is split into such"""
    head_rate: Positive = 0.05
    """Adam rate of the readout's weights"""
    head_classes: Literal["all", "current"] = "all"
    """classes that compete in the loss: all, or the current task's"""


class Adam(nn.Module):
    """Running moments of the gradients of some weights, each [C, out, inputs...].

    Attributes:
        mean: m by name, shaped like the weights.
        square: q by name, [C, out].
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.mean = Tensors(**{name: torch.zeros_like(weight) for name, weight in weights.items()})
        self.square = Tensors(**{n: w.new_zeros(w.shape[:2]) for n, w in weights.items()})

    def step(self, gradients: dict[str, Tensor], number: int) -> dict[str, Tensor]:
        """Take in gradients of step ``number`` (from 1); what to subtract, times a rate."""
        moves = {}
        for name, gradient in gradients.items():
            power = gradient.flatten(2).square().mean(2)
            self.mean[name] = self.mean[name].lerp(gradient, 1 - MEAN_DECAY)
            self.square[name] = self.square[name].lerp(power, 1 - SQUARE_DECAY)
            size = (self.square[name] / (1 - SQUARE_DECAY**number)).sqrt() + EPSILON
            size = size.view(*size.shape, *[1] * (gradient.dim() - 2))
            moves[name] = self.mean[name] / (1 - MEAN_DECAY**number) / size
        return moves


class GradientLearner(SpikingLearner):
    """The network of all methods, trained through time by Adam under cross-entropy.

    Thresholds are calibrated on the first task's first images and then stay. Within each task the
    rate falls to zero along half a cosine. Weights are kept in full precision, and rounded to
    their grid in the forward pass. The readout is linear with a bias, from zero.

    A method says in :meth:`_allowed` which part of a gradient may act; the steps lie along it.
    """

    preset: ClassVar[dict[str, Any]] = {
        "filters": "random",  # as drawn, until the gradients move them
        "projector": "none",
        "keep_features": False,  # the network changes with every batch
    }
    remembered: ClassVar[tuple[str, ...]] = ("position", "shown", "total", "steps")

    def __init__(self, params: "Params", generator: np.random.Generator) -> None:
        if params.output not in COMPILED:
            raise UserError(
                f"output = {params.output!r}: has no surrogate gradient; allowed: "
                f"{', '.join(COMPILED)}"
            )
        super().__init__(params, generator)
        self.position = -1  # of the current task
        self.shown = 0  # images of its pass so far
        self.total = 1  # and in all
        self.steps = 0  # of the optimiser in its pass
        self.optimiser = Adam(self._weights())

    def begin_task(self, position: int, images: TaskImages) -> None:
        """Calibrate the thresholds on the first task; a fresh optimiser."""
        if position == 0:
            for layer in track(self.used.layers, label="thresholds"):
                self.filters.calibrate(layer, images)
        self.position, self.shown, self.steps = position, 0, 0
        self.total = self.params.epochs * len(images)
        self.optimiser = Adam(self._weights())

    def learn(self, images: TaskImages, batch: Batch) -> None:
        """A batch in steps of ``gradient_batch`` images."""
        size = self.params.gradient_batch
        steps = [
            self.step(images.task, batch.images[i : i + size], batch.labels[i : i + size])
            for i in range(0, len(batch), size)
        ]
        counts = {name: torch.cat([step[name] for step in steps]) for name in self.used.names}
        self._observe(images.task, batch.images, counts)
        self._cache.clear()

    # ---- what a method may replace

    def _allowed(self, name: str, gradient: Tensor) -> Tensor:
        """The part that may act of a gradient [C, out, ...] of a layer.

        The readout's is [1, classes, inputs], with the bias last.
        """
        return gradient

    def _observe(self, task: TaskSpec, pixels: np.ndarray, counts: dict[str, Tensor]) -> None:
        """Called after every batch with its spike counts by layer [B, channels, height, width]."""

    # ---- one step

    def step(self, task: TaskSpec, pixels: np.ndarray, labels: np.ndarray) -> dict[str, Tensor]:
        """One step of the optimiser; the spike counts that led to it."""
        p = self.params
        among = self.columns(task.classes if p.head_classes == "current" else self.labels)
        found = loss_and_gradients(
            self.used,
            pixels,
            self.columns(labels),
            schedule(task, p.presentation),
            LinearHead(self.readout.weight.to(self.device), self.readout_inputs, among.tolist()),
            slope=p.gradient_slope,
        )
        if not math.isfinite(found.loss):
            layer = self.used.names[-1]
            raise NotFinite(
                f"{layer} and readout: the loss is {found.loss}; lower gradient_rate or head_rate"
            )
        gradients = {**found.weights, READOUT: found.head["weight"].cpu().T[None]}
        allowed = {name: self._allowed(name, gradient) for name, gradient in gradients.items()}
        self.steps += 1
        moves = self.optimiser.step(allowed, self.steps)
        fall = 0.5 * (1 + math.cos(math.pi * min(self.shown / self.total, 1)))
        for layer in self.used.layers:
            layer.weight = layer.weight - p.gradient_rate * fall * moves[layer.name]
        self.readout.weight = self.readout.weight - p.head_rate * fall * moves[READOUT][0].T
        self.shown += len(labels)
        return found.counts

    def readout_inputs(self, counts: dict[str, Tensor]) -> Tensor:
        """Readout inputs [B, F + 1] of the layers' spike counts."""
        views = {v: features.view_counts(counts[features.split(v)[0]], v) for v in self.views}
        return self.inputs_of(views)

    def _weights(self) -> dict[str, Tensor]:
        """All weights that gradients change, shaped as :meth:`_allowed` has them."""
        weights = {layer.name: layer.weight for layer in self.used.layers}
        return {**weights, READOUT: self.readout.weight.T[None]}

    def new_readout(self) -> readout.Linear:
        """Weights of zero."""
        shape = 1 + sum(self.sizes.values()), self.classes
        return readout.Linear(weight=torch.zeros(shape, dtype=torch.float64))
