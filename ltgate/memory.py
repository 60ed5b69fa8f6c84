"""Memory that a trial needs, estimated before it begins (CPU memory, bytes).

Counted are the parts that grow with parameters: weights, the readout's state, spike counts of all
images, and what one forward pass holds. Each names the parameters that lower it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch

from ltgate import network
from ltgate.data import sources
from ltgate.errors import UserError
from ltgate.features import LARGE_BATCH, patched, smallest, split
from ltgate.network import KERNEL
from ltgate.plasticity.filters import FILTERS
from ltgate.plasticity.readout import READOUTS

if TYPE_CHECKING:
    from ltgate.params import Params

_GROUP = Path("/sys/fs/cgroup")  # limits of a container or a cluster's job (Linux)
_SHARE = 0.25  # of the free memory that a forward pass may take when it chooses its size itself


@dataclass(frozen=True)
class Part:
    """What takes memory, how much (bytes), and which parameters lower it."""

    name: str
    size: int
    lower: str


def shapes(params: "Params") -> dict[str, tuple[int, int, int]]:
    """(channels, height, width) of every layer."""
    image = sources.of(params).image_shape
    return network.shapes(params.channels, params.strides, params.hidden, image)


def parts(
    params: "Params", images: Sequence[int], steps: int, seen: Sequence[str] = ()
) -> list[Part]:
    """What a trial of ``params`` (a method's, configured) holds at its largest.

    Args:
        params: The parameters.
        images: Images of every task and split whose counts are kept.
        steps: Time steps of the longest sample.
        seen: Views that the readout sees, of ``readout_layers``; empty: all.
    """
    p, layers = params, shapes(params)
    weights, before = 0, sources.of(params).image_shape
    for name, shape in layers.items():
        inputs = before[0] * KERNEL**2 if name.startswith("conv") else math.prod(before)
        weights, before = weights + len(p.taus()) * shape[0] * inputs, shape
    views, bytes_ = {}, 0
    for view in p.readout_layers:
        name, side = split(view)
        name = f"dense{len(p.hidden)}" if name == "dense" else name
        views[view] = patched(layers[name], side)
        bytes_ += math.prod(views[view]) * np.dtype(smallest(steps, side)).itemsize
    views = [views[view] for view in seen or views]
    n, classes = sum(map(math.prod, views)) + 1, {x for task in p.tasks for x in task.classes}
    readout, learning = READOUTS[p.readout], FILTERS[p.filters].online
    return [
        Part("weights", 4 * 3 * weights, "channels or hidden"),
        Part(
            f"readout {p.readout}",
            readout.memory(n, len(classes), p, views),
            " or ".join(["readout_layers (patches: conv1/4)", *readout.lower]),
        ),
        Part("spike counts", bytes_ * sum(images), "train_images or readout_layers"),
        Part(
            "forward pass",
            per_image(p) * (p.batch_size if learning else at_once(p)),
            "batch_size" if learning else "chunk_images",
        ),
    ]


def per_image(params: "Params") -> int:
    """Bytes that one image takes in a forward pass: counts, membranes and currents."""
    neurons = sum(int(np.prod(shape)) for shape in shapes(params).values())
    held = 2 if params.backend != "portable" else 2 + 5 * len(params.taus())
    return 4 * held * neurons


def at_once(params: "Params") -> int:
    """Images simulated at once by a frozen network: as told, or as many as fit, up to 256."""
    return params.chunk_images or _fitting(params, available())


def batch_size(params: "Params") -> int:
    """The largest power of two, up to 256, of images that fit into a batch on this machine.

    It follows from the memory that the machine (its GPU, where that is used) has, not from what is
    free at the moment: the same number every time.
    """
    most = installed()
    if params.device != "cpu" and torch.cuda.is_available():
        most = min(most, torch.cuda.get_device_properties(0).total_memory)
    return 1 << (_fitting(params, most).bit_length() - 1)


def _fitting(params: "Params", memory: int) -> int:
    """Images, up to 256, of which a forward pass fits into its share of ``memory`` (bytes)."""
    return int(np.clip(_SHARE * memory // per_image(params), 1, LARGE_BATCH))


def installed() -> int:
    """Bytes of memory that this machine has, or a container or a job of it is given."""
    total = psutil.virtual_memory().total
    return min(total, _limit("max") or total)


def available() -> int:
    """Bytes that this process may still take; a container's or a job's limit counts."""
    free = psutil.virtual_memory().available
    most = _limit("max")
    return min(free, most - _limit("current")) if most else free


def _limit(which: str) -> int:
    """``max`` or ``current`` memory (bytes) of this process's group; 0: it has no limit."""
    try:
        return int((_GROUP / f"memory.{which}").read_text())
    except (OSError, ValueError):
        return 0


def needed(parts: Sequence[Part]) -> int:
    """Bytes that a trial of these :func:`parts` needs."""
    return sum(part.size for part in parts)


def check(parts: Sequence[Part]) -> None:
    """Refuse a trial that would not fit, before it begins: how much it needs, and what to lower."""
    total, free = needed(parts), available()
    if total > free:
        largest = max(parts, key=lambda part: part.size)
        raise UserError(
            f"memory: about {total / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free; "
            f"{largest.name} takes {largest.size / 1e9:,.1f} GB: lower {largest.lower}"
        )
