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
"""

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from ltgate.backends.portable import correlate, currents
from ltgate.data.store import TaskImages
from ltgate.declare import Count, Group, Share, Whole
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


@FILTERS.add("first")
class CompetitiveFilters(Filters):
    """Filters learned on the first task before its pass, and frozen then."""

    def learn_layer(self, index: int, images: TaskImages, chunk: int) -> None:
        """Learn from the spike counts of the layer before, or from pixels."""
        p, layer = self.params, self.network.layers[index]
        inputs = self._inputs(index, images, chunk)
        rule = (p.eta_filters, p.filter_passes, self.generator)
        layer.weight = learn(layer, inputs, *rule).to(layer.weight)

    def _inputs(self, index: int, images: TaskImages, chunk: int) -> Tensor:
        """What layer ``index`` receives: pixel currents or spike counts [N, in, height, width]."""
        pixels = images.images[: min(self.params.hebbian_images or len(images), len(images))]
        if index == 0:
            return self.network.pixels(pixels).cpu()
        before = self.network.names[index - 1]
        part = self.network.upto(before)
        parts = [
            self.forward(part, images.task, pixels[start : start + chunk]).counts[before]
            for start in range(0, len(pixels), chunk)
        ]
        return torch.cat(parts).cpu()


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
