"""Spike counts of a frozen network, computed once per network, images and presentation, and cached.

The cache lies in ``data/features`` as one HDF5 file per combination, named by the fingerprints of
what it was made from. It can be deleted at any time.
"""

from dataclasses import dataclass

import h5py
import numpy as np

from ltgate import backends, paths
from ltgate.data.store import TaskImages
from ltgate.data.tasks import schedule
from ltgate.files import atomic, lock
from ltgate.network import Network
from ltgate.progress import track

LARGE_BATCH = 256


@dataclass
class Features:
    """Counts of N images.

    Attributes:
        counts: Per wanted layer, spikes per neuron, unsigned integers [N, neurons].
        spikes: Per layer up to the deepest wanted one, mean spikes per image.
        rates: Per layer, mean crossings per compartment, neuron and step, [C].
    """

    counts: dict[str, np.ndarray]
    spikes: dict[str, float]
    rates: dict[str, np.ndarray]


def compute(
    network: Network,
    images: TaskImages,
    layers: list[str],
    presentation: str,
    backend: str = "auto",
    device: str = "cpu",
    limit: int = 0,
) -> Features:
    """Counts of ``layers`` for all images (or the first ``limit``), from the cache if it has them."""
    number = min(limit, len(images)) if limit else len(images)
    part = network.upto(max(layers, key=network.names.index))
    key = f"{part.fingerprint()}-{images.fingerprint}-{images.task.frame_rate_hz:g}Hz"
    key += f"-{images.task.duration_ms:g}ms-{presentation}-{'+'.join(layers)}-{number}"
    path = paths.data() / "features" / f"{key}.h5"
    if not path.exists():
        with lock(path.with_suffix(".lock")):
            if not path.exists():
                made = _run(part, images, layers, presentation, backend, device, number)
                _write(path, made)
    return _read(path, layers)


def _run(
    network: Network,
    images: TaskImages,
    layers: list[str],
    presentation: str,
    backend: str,
    device: str,
    number: int,
) -> Features:
    steps = schedule(images.task, presentation)
    kind = np.uint8 if len(steps.drive) < 256 else np.uint16
    sizes = {layer.name: layer.neurons for layer in network.layers}
    counts = {name: np.empty((number, sizes[name]), kind) for name in layers}
    spikes = dict.fromkeys(network.names, 0.0)
    rates = {name: np.zeros(network.dynamics.compartments) for name in network.names}
    starts = range(0, number, LARGE_BATCH)
    for start in track(starts, label=f"features of {images.task.name} ({images.split})"):
        rows = slice(start, min(start + LARGE_BATCH, number))
        activity = backends.forward(
            network, images.images[rows], steps, backend=backend, device=device
        )
        for layer in network.layers:
            name = layer.name
            flat = activity.counts[name].flatten(1).cpu().numpy()
            spikes[name] += float(flat.sum(dtype=np.int64)) / number
            crossed = activity.crossings[name].sum((0, 2)).cpu().numpy()
            rates[name] += crossed / (number * layer.neurons * len(steps.drive))
            if name in counts:
                counts[name][rows] = flat
    return Features(counts, spikes, rates)


def _write(path, made: Features) -> None:
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        for name, values in made.counts.items():
            file[f"counts/{name}"] = values
        for name, value in made.spikes.items():
            file[f"spikes/{name}"] = value
            file[f"rates/{name}"] = made.rates[name]


def _read(path, layers: list[str]) -> Features:
    with h5py.File(path, "r") as file:
        counts = {name: file[f"counts/{name}"][:] for name in layers}
        spikes = {name: float(value[()]) for name, value in file["spikes"].items()}
        rates = {name: value[:] for name, value in file["rates"].items()}
    return Features(counts, spikes, rates)
