r"""DSD-SNN: grow new neurons for a task, prune weak ones, freeze old ones (Han et al. 2023).

In the first task the first ``dsd_start`` of each layer's units (a convolution's channels) are
active. Each later task grows ``dsd_growth`` of the layer from units that were never used, with
fresh weights. A unit takes input from units of its own task and of earlier ones, never of later
ones; so what frozen units do, and what the readout's frozen columns make of them, stays as it was
to the last bit. All units share one final mask and one readout (the original adds a network that
predicts the task; it is not used here).

Pruning, ``dsd_pruning`` rounds spread evenly over a task (the original: one each epoch). With the
importance i of a unit of the current task, its summed |w| scaled so that the layer's weakest has 0
and its strongest 1, in round r > 1::

    d = 2 i - theta,  plus 3 if positive        theta: see ``LIMITS``
    score <- 0.999 score + d exp(-floor((r - 1) / 13))      (from 5; 12 for convolutions)

and a unit whose score falls below 0 is silent from then on: its weights and those that lead from
it are zero. This is magnitude of weights, as in the authors' code, not activity of spikes.

Thresholds are calibrated for the first task's units; units grown later start with their median.
"""

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ltgate import features
from ltgate.data.store import TaskImages
from ltgate.data.tasks import TaskSpec
from ltgate.declare import Group, Share, Whole
from ltgate.methods.base import METHODS
from ltgate.methods.gradient import READOUT, GradientLearner
from ltgate.network import Layer, balance
from ltgate.plasticity import readout
from ltgate.state import Tensors

if TYPE_CHECKING:
    from ltgate.params import Params

UNUSED, PRUNED = -1, -2  # otherwise a unit's owner is the position of the task that grew it
FULL_SCORE = 5.0
LIMITS = {"conv": (0.8, 0.5), "dense": (1.3, 1.0)}  # theta in the first task and in later ones
FALL = {"conv": 12, "dense": 13}  # rounds in which pruning weakens by a factor e


class DSDSNNParameters(Group, late=True):
    """Method dsd_snn."""

    dsd_start: Share = 0.3
    """share of units of the first task"""
    dsd_growth: Share = 0.15
    """share of units of each later task"""
    dsd_pruning: Whole = 30
    """pruning rounds per task; 0 = none"""


@METHODS.add("dsd_snn")
class DSDSNN(GradientLearner):
    """Units that belong to tasks."""

    preset: ClassVar[dict[str, Any]] = {
        **GradientLearner.preset,
        "head_rate": 0.01,
        "head_classes": "current",
        "dsd_start": 0.4,
        "dsd_growth": 0.6,
        "dsd_pruning": 8,
    }
    answering: ClassVar = (*GradientLearner.answering, "owner")

    def __init__(self, params: "Params", generator: np.random.Generator) -> None:
        super().__init__(params, generator)
        sizes = {layer.name: layer.out_shape[:1] for layer in self.used.layers}
        self.owner = Tensors(**{name: torch.full(size, UNUSED) for name, size in sizes.items()})
        self.score = Tensors(**{name: torch.full(size, FULL_SCORE) for name, size in sizes.items()})

    def begin_task(self, position: int, images: TaskImages) -> None:
        """Units for the task."""
        share = self.params.dsd_growth if position else self.params.dsd_start
        for layer in self.used.layers:
            self._grow(layer, position, share)
        super().begin_task(position, images)
        if position == 0:
            for layer in self.used.layers:
                self._share_threshold(layer)

    # ---- masks

    def _allowed(self, name: str, gradient: Tensor) -> Tensor:
        if name == READOUT:
            earlier = self.params.tasks[: self.position]
            allowed = gradient.clone()
            allowed[:, self.columns([x for task in earlier for x in task.classes])] = 0
            return allowed
        layer = self.network.layers[self.network.names.index(name)]
        mask = self.connected(layer) & (self.owner[name] == self.position)[:, None]
        return _masked(gradient, mask)

    def connected(self, layer: Layer) -> Tensor:
        """Which units [out] may take input from which channels or neurons [in] below."""
        index = self.network.names.index(layer.name)
        first = torch.zeros(layer.in_shape[0], dtype=torch.int64)
        below = self.owner[self.network.names[index - 1]] if index else first
        if not layer.is_conv:
            below = below.repeat_interleave(layer.in_shape[1] * layer.in_shape[2])
        owner = self.owner[layer.name][:, None]
        return (below >= 0) & (below <= owner)

    def inputs_of(self, counts: dict[str, Tensor]) -> Tensor:
        """Each task's units are normalised on their own: what later ones do leaves them alone."""
        if not self.params.normalise_counts:
            return super().inputs_of(counts)
        parts = []
        for view in self.views:
            values = counts[view].flatten(1).double()
            values = readout.root(values) if self.params.root_counts else values
            owner = self.owner[features.split(view)[0]].to(values.device)
            owner = owner.repeat_interleave(values.shape[1] // len(owner))
            part = torch.zeros_like(values)
            for task in range(int(owner.max()) + 1):
                part = part + normalize(values * (owner == task), dim=1)
            parts.append(part)
        return torch.cat([*parts, torch.ones_like(parts[0][:, :1])], 1)

    # ---- growth

    def _grow(self, layer: Layer, position: int, share: float) -> None:
        """Give never-used units to the task at ``position``, as long as there are any."""
        owner = self.owner[layer.name]
        number = max(1, int(share * len(owner)))
        grown = (owner == UNUSED).nonzero()[:number, 0]
        owner[grown] = position
        self.score[layer.name] = torch.full_like(self.score[layer.name], FULL_SCORE)
        if position:
            layer.weight = layer.weight.clone()
            layer.weight[:, grown] = self._drawn(layer)[:, grown]
        layer.weight = _masked(layer.weight, self.connected(layer))

    def _drawn(self, layer: Layer) -> Tensor:
        """Fresh weights, drawn as the network's are."""
        p = self.params
        bound = p.weight_scale / math.sqrt(layer.weight[0, 0].numel())
        drawn = self.generator.uniform(-bound, bound, layer.weight.shape).astype(np.float32)
        weight = torch.from_numpy(drawn).to(layer.weight)
        return p.weight_scale * balance(weight) if p.balanced else weight

    def _share_threshold(self, layer: Layer) -> None:
        """Units that were not calibrated get the median of those that were."""
        calibrated = self.owner[layer.name] == 0
        median = layer.threshold[:, calibrated].median(1, keepdim=True).values
        mask = calibrated.to(layer.threshold.device)
        layer.threshold = torch.where(mask, layer.threshold, median)

    # ---- pruning

    def _observe(self, task: TaskSpec, pixels: np.ndarray, counts: dict[str, Tensor]) -> None:
        rounds = self.params.dsd_pruning
        before = max(0, self.shown - len(pixels)) * rounds // self.total
        now = min(self.shown, self.total) * rounds // self.total
        for number in range(before + 1, now + 1):
            if number > 1:
                for layer in self.used.layers:
                    self._prune(layer, number)

    def _prune(self, layer: Layer, number: int) -> None:
        """Round ``number`` on one layer."""
        kind = "conv" if layer.is_conv else "dense"
        owner, score = self.owner[layer.name], self.score[layer.name]
        current = (owner == self.position).nonzero()[:, 0]
        size = layer.weight[:, current].abs().transpose(0, 1).flatten(1).sum(1).cpu()
        score[current] = score_after(
            score[current], importance(size), LIMITS[kind][self.position > 0], number, FALL[kind]
        )
        weak = current[score[current] < 0]
        if len(weak):
            owner[weak] = PRUNED
            for other in self.used.layers:
                mask, mean = self.connected(other), self.optimiser.mean
                other.weight = _masked(other.weight, mask)
                mean[other.name] = _masked(mean[other.name], mask)  # nor does momentum revive it


def importance(size: Tensor) -> Tensor:
    """Sizes scaled to [0, 1]; all 1 where they are equal, as there is no weakest then."""
    if len(size) == 0 or size.max() == size.min():
        return torch.ones_like(size)
    return (size - size.min()) / (size.max() - size.min())


def score_after(score: Tensor, importance: Tensor, limit: float, number: int, fall: int) -> Tensor:
    """Scores after round ``number`` (from 1); see the module's equation."""
    d = 2 * importance - limit
    d = torch.where(d > 0, d + 3, d)
    return 0.999 * score + d * math.exp(-((number - 1) // fall))


def _masked(weight: Tensor, mask: Tensor) -> Tensor:
    """Weights [C, out, in, ...] where the mask [out, in] is true, else zero."""
    mask = mask.to(weight.device).view(1, *mask.shape, *[1] * (weight.dim() - 3))
    return torch.where(mask, weight, torch.zeros_like(weight))
