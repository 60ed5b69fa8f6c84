"""Spike counts of a frozen network, computed once per network, images and presentation, and cached.

What the readout sees of a layer is written ``conv3`` (every neuron) or ``conv1/4`` (counts summed
over patches of 4 x 4 positions; at the right and lower edge they may be smaller). The cache lies in
``data/features`` as one checkpoint per combination, named by the fingerprints of what it was made
from. It can be deleted at any time.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltgate import backends, checkpoint, paths
from ltgate.data.store import TaskImages
from ltgate.data.tasks import schedule
from ltgate.declare import Group, Whole
from ltgate.errors import UserError
from ltgate.files import lock
from ltgate.network import Network
from ltgate.progress import tell, track

LARGE_BATCH = 256  # images of a frozen network simulated at once: more bring no speed
SATURATED = 0.9  # spikes per neuron and step


class FeatureParameters(Group, compute=True):
    """Spike counts of frozen networks."""

    chunk_images: Whole = 0
    """images of a frozen network simulated at once; 0 = what fits, up to 256"""
    keep_features: bool = True
    """keep spike counts in data/features"""


@dataclass
class Features:
    """Counts of N images.

    Attributes:
        counts: Per wanted view, spikes per neuron or patch, unsigned integers [N, values].
        spikes: Per layer up to the deepest wanted one, mean spikes per image.
        rates: Per layer, mean crossings per compartment, neuron and step, [C].
    """

    counts: dict[str, np.ndarray]
    spikes: dict[str, float]
    rates: dict[str, np.ndarray]


def split(view: str) -> tuple[str, int]:
    """Layer and patch side of a view: ``conv1/4`` is (conv1, 4), ``conv3`` is (conv3, 1)."""
    layer, _, side = view.partition("/")
    return layer, int(side or 1)


def shape(network: Network, view: str) -> tuple[int, int, int]:
    """(channels, height, width) of what a view has."""
    name, side = split(view)
    layer = network.layers[network.names.index(name)].out_shape
    if side > min(layer[1:]):
        raise UserError(
            f"readout_layers: {view!r} cuts {layer[1]} x {layer[2]} positions into patches of "
            f"{side} x {side}; the side must be {min(layer[1:])} at most"
        )
    return patched(layer, side)


def size(network: Network, view: str) -> int:
    """Number of values that a view has."""
    return math.prod(shape(network, view))


def patched(shape: tuple[int, int, int], side: int) -> tuple[int, int, int]:
    """A layer's (channels, height, width) in patches."""
    channels, height, width = shape
    return channels, -(-height // side), -(-width // side)


def view_counts(counts: Tensor, view: str) -> Tensor:
    """Spike counts [B, channels, height, width] as the view shows them, [B, values]."""
    side = split(view)[1]
    if side > 1:
        height, width = counts.shape[2:]
        whole = torch.nn.functional.pad(counts, (0, -width % side, 0, -height % side))
        counts = whole.unflatten(3, (-1, side)).unflatten(2, (-1, side)).sum((3, 5))
    return counts.flatten(1)


def compute(
    network: Network,
    images: TaskImages,
    views: list[str],
    presentation: str,
    backend: str = "auto",
    device: str = "cpu",
    limit: int = 0,
    keep: bool = True,
    chunk: int = LARGE_BATCH,
) -> Features:
    """Counts of ``views`` for all images (or the first ``limit``), from the cache if there.

    Without ``keep`` they are computed, and no file is read or written. ``chunk`` images are
    simulated at once, which changes memory and time alone. A layer without spikes, or with one in
    nearly every step, is told in a warning.
    """
    number = min(limit, len(images)) if limit else len(images)
    part = network.upto(max((split(view)[0] for view in views), key=network.names.index))
    options = (presentation, backend, device, number, chunk)
    if not keep:
        return _run(part, images, views, *options)
    timing = f"{images.task.frame_rate_hz}Hz-{images.task.duration_ms}ms-{presentation}"
    seen = "+".join(views).replace("/", "p")
    key = f"{part.fingerprint()}-{images.fingerprint}-{timing}-{seen}-{number}"
    path = paths.data() / "features" / f"{key}.safetensors"
    if (found := _kept(path, views)) is None:
        with lock(path.with_suffix(".lock")):
            if (found := _kept(path, views)) is None:
                found = _run(part, images, views, *options)
                arrays = {f"counts.{view}": values for view, values in found.counts.items()}
                arrays |= {f"rates.{name}": values for name, values in found.rates.items()}
                tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
                checkpoint.save(path, tensors, found.spikes)
    return found


def _run(
    network: Network,
    images: TaskImages,
    views: list[str],
    presentation: str,
    backend: str,
    device: str,
    number: int,
    chunk: int,
) -> Features:
    steps = schedule(images.task, presentation)
    counts = {
        view: np.empty((number, size(network, view)), smallest(len(steps), split(view)[1]))
        for view in views
    }
    spikes = dict.fromkeys(network.names, 0)
    crossed = {name: np.zeros(network.dynamics.compartments, int) for name in network.names}
    starts = range(0, number, chunk)
    for start in track(starts, label=f"features of {images.task.name} ({images.split})"):
        rows = slice(start, min(start + chunk, number))
        activity = backends.forward(
            network, images.images[rows], steps, backend=backend, device=device
        )
        for layer in network.layers:
            spikes[layer.name] += int(activity.counts[layer.name].sum())
            crossed[layer.name] += activity.crossings[layer.name].sum((0, 2)).cpu().numpy()
        for view in views:
            shown = view_counts(activity.counts[split(view)[0]], view)
            counts[view][rows] = shown.cpu().numpy()
    possible = {layer.name: number * layer.neurons * len(steps) for layer in network.layers}
    _report(images, {name: spikes[name] / possible[name] for name in possible})
    rates = {name: crossed[name] / possible[name] for name in possible}
    return Features(counts, {name: total / number for name, total in spikes.items()}, rates)


def _report(images: TaskImages, rates: dict[str, float]) -> None:
    """Warn of layers that say nothing: no spike at all, or one in nearly every step."""
    for name, rate in rates.items():
        if rate == 0:
            said = "no neuron spikes; lower threshold_lowest, raise"
        elif rate > SATURATED:
            said = f"neurons spike in {rate:.0%} of the steps; raise threshold_highest, lower"
        else:
            continue
        task = images.task
        tell(
            f"{name}: on task {task.name} ({images.split}, {task.frame_rate_hz:g} Hz) {said} "
            "target_rate or weight_scale, or calibrate longer (calibration_iterations)"
        )


def smallest(steps: int, side: int) -> type:
    """The smallest unsigned type that holds the spikes of a patch."""
    return np.min_scalar_type(steps * side * side).type


def _kept(path: Path, views: list[str]) -> Features | None:
    """What a file holds; None where there is none that this code has made, whole."""
    if (kept := checkpoint.kept(path)) is None:
        return None
    tensors, spikes = kept
    counts = {view: tensors[f"counts.{view}"].numpy() for view in views}
    return Features(counts, spikes, {name: tensors[f"rates.{name}"].numpy() for name in spikes})
