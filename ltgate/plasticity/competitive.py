r"""Competitive Hebbian learning: at every position the most strongly driven filter learns.

Lateral inhibition lets one of the C x out filters of a position win: the one with the largest
summed current I_k = w_k . x, where x are the presynaptic spike counts of its patch (a trace that
has not decayed). With x' the patch less its mean (feed-forward inhibition balances excitation)::

    dw_k = sum over positions won of (I_k / |x'|^2) x'
    w_k <- u / |u|,   u = (1 - eta) w_k + eta dw_k / |dw_k|

Post times pre, gated by winning, at constant norm: Oja's bounded Hebbian rule under competition,
whose fixed points are the centres of spherical k-means (compare Coates & Ng 2012; Diehl & Cook
2015). A filter that never won in a pass is imprinted with a random patch, as a neuron that is never
active lowers its threshold until it responds to something.

Of streams counts tell nothing where the class is an order of events. With ``filter_taus_ms`` every
step of every sample stands for a position, and x is the presynaptic trace at that step, or a fast
trace less a slow one, which is above 0 where a channel has just fired and below where it fired
before: both tell which came last (compare the time surfaces of Lagorce et al. 2017)::

    e_c[n] = a_c e_c[n-1] + (1 - a_c) spike[n],   a_c = exp(-dt / tau_c),   x = e_1 - e_2

With ``same_weights`` the compartments of a neuron learn one filter.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor

from ltgate.backends.portable import correlate, currents
from ltgate.data.store import TaskImages
from ltgate.data.tasks import schedule
from ltgate.declare import Count, Distinct, Group, Positive, Share, Whole
from ltgate.errors import UserError
from ltgate.network import KERNEL, LARGEST, Layer
from ltgate.plasticity.filters import FILTERS, Filters
from ltgate.plasticity.projector import patches

# Patches with less than this share of the mean variance are blank and teach nothing.
BLANK = 1e-4


class CompetitionParameters(Group):
    """Competitive learning of filters."""

    eta_filters: Share = 1.0
    """rate of competitive learning; 1 = mean of a filter's wins"""
    filter_passes: Count = 12
    """passes of competitive learning per layer"""
    hebbian_images: Whole = 400
    """images of the first task that the filters learn from; 0 = all"""


class TraceParameters(Group, since="0.2"):
    """Filters of streams."""

    filter_taus_ms: Annotated[list[Positive], Distinct, Field(max_length=2)] = []
    """time constants (ms) of presynaptic traces, one or the difference of two, that filters learn
    from; none: counts"""


@FILTERS.add("first")
class CompetitiveFilters(Filters):
    """Filters learned on the first task before its pass, and frozen then."""

    def learn_layer(self, index: int, images: TaskImages, chunk: int) -> None:
        """Learn from the spike counts of the layer before, or from pixels."""
        p, layer = self.params, self.network.layers[index]
        seen = self._traces if p.filter_taus_ms else self._inputs
        inputs, whole = seen(index, images, chunk), layer.weight
        layer.weight = whole[:1] if p.same_weights else whole
        rule = (p.eta_filters, p.filter_passes, self.generator)
        layer.weight = learn(layer, inputs, *rule).to(whole).expand_as(whole).clone()

    def _traces(self, index: int, images: TaskImages, chunk: int) -> Tensor:
        """Presynaptic traces of layer ``index`` at every step, [steps N, in, height, width]."""
        steps = schedule(images.task, self.params.presentation)
        spikes = self._inputs_in_time(index, images.task, self._shown(images), steps)
        return traces(spikes, self.params.filter_taus_ms, steps.dt_ms)

    def _shown(self, images: TaskImages) -> np.ndarray:
        return images.images[: min(self.params.hebbian_images or len(images), len(images))]

    def _inputs(self, index: int, images: TaskImages, chunk: int) -> Tensor:
        """What layer ``index`` receives: pixel currents or spike counts [N, in, height, width]."""
        pixels = self._shown(images)
        if index == 0:
            streamed = pixels.ndim == 5
            return torch.tensor(pixels.sum(1)) if streamed else self.network.pixels(pixels).cpu()
        before = self.network.names[index - 1]
        part = self.network.upto(before)
        parts = [
            self.forward(part, images.task, pixels[start : start + chunk]).counts[before]
            for start in range(0, len(pixels), chunk)
        ]
        return torch.cat(parts).cpu()


def traces(spikes: Tensor, taus_ms: Sequence[float], dt_ms: float) -> Tensor:
    """The module's x at every step, [T N, in, height, width].

    Args:
        spikes: Presynaptic, float32 [T, N, in, height, width].
        taus_ms: One time constant, or two, the first's trace less the second's.
        dt_ms: Length of a step.
    """
    decay = torch.exp(-dt_ms / torch.tensor(taus_ms)).view(-1, 1, 1, 1, 1)
    trace, found = torch.zeros(len(taus_ms), *spikes.shape[1:]), torch.empty_like(spikes)
    for step, spike in enumerate(spikes):
        trace = decay * trace + (1 - decay) * spike
        found[step] = trace[0] if len(trace) == 1 else trace[0] - trace[1]
    return found.flatten(0, 1)


def learn(
    layer: Layer, counts: Tensor, rate: float, passes: int, generator: np.random.Generator
) -> Tensor:
    """Learn a layer's filters from the spike counts of its inputs.

    Args:
        layer: Gives the initial weights, which are imprinted with random patches first.
        counts: Presynaptic spike counts (or pixels) [N, in, height, width].
        rate: eta, relative to the mean step of a filter's wins; 1 takes the mean of the wins.
        passes: Updates, each over all N images.
        generator: Chooses the patches that are imprinted.

    Returns:
        Balanced weights of unit length, shaped like the layer's.

    Raises:
        UserError: Every patch is blank.
    """
    inputs = counts.float()
    shape = layer.weight.shape
    filters, size = shape[0] * shape[1], shape[2:].numel()
    eta, ones = torch.tensor(rate), torch.ones(1, size)
    total = _drive(layer, inputs, ones)
    energy = _drive(layer, inputs * inputs, ones) - total * total / size  # |x'|^2 of every patch
    seen = energy > BLANK * energy.mean()
    if not seen.any():
        raise UserError(
            f"{layer.name}: nothing to learn filters from, its {len(inputs)} inputs are blank; use "
            "other images, or let the layer before spike (lower threshold_lowest, raise "
            "target_rate or calibration_iterations)"
        )
    weight = _imprint(layer, inputs, seen, filters, generator)
    for _ in range(passes):
        drive = _drive(layer, inputs, weight)
        strength, winner = drive.max(1, keepdim=True)
        active = (strength > 0) & seen
        post = torch.zeros_like(drive)
        post.scatter_(1, winner, torch.where(active, strength / energy.clamp_min(1e-30), 0.0))
        step = correlate(layer, inputs, post).flatten(1)
        step = functional.normalize(step - step.mean(1, keepdim=True), dim=1)
        wins = torch.bincount(winner[active], minlength=filters)
        weight = functional.normalize((1 - eta) * weight + eta * step, dim=1)
        idle = (wins == 0).nonzero()[:, 0]
        if len(idle):
            weight[idle] = _imprint(layer, inputs, seen, len(idle), generator)
    order = torch.from_numpy(generator.permutation(filters))
    return weight[order].reshape(shape).clamp(-LARGEST, LARGEST)


def _drive(layer: Layer, inputs: Tensor, weight: Tensor) -> Tensor:
    """Summed currents of filters [F, size], [N, F, height, width]."""
    return currents(layer, inputs, weight.view(1, -1, *layer.weight.shape[2:])).squeeze(1)


def _imprint(
    layer: Layer, inputs: Tensor, seen: Tensor, number: int, generator: np.random.Generator
) -> Tensor:
    """``number`` random patches that are not blank, balanced, [number, size]."""
    places = seen.nonzero()
    image, _, row, column = places[torch.from_numpy(generator.integers(len(places), size=number))].T
    windows = patches(inputs[image], KERNEL, layer.stride).view(
        number, -1, layer.weight[0, 0].numel()
    )
    flat = windows[torch.arange(number), row * layer.out_shape[2] + column]
    return functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)
