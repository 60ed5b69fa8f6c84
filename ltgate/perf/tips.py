"""Rows on optimisation tips: the effect of each, measured."""

import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ltgate import checkpoint
from ltgate.perf import loading, memory, timing
from ltgate.perf.bench import BATCH, Bench, Workload
from ltgate.perf.dense import Convolutions
from ltgate.perf.guide import NO_GPU, Measured, absent, holds, measures
from ltgate.perf.training import trained


@measures
def mixed_precision(bench: Bench) -> dict[str, Measured]:
    """The GPU backend's parameter ``mixed``; on a CPU, dense convolutions in bfloat16."""
    fast = bench.workloads["fast"]
    if bench.device != "cpu":
        work = {kind: partial(fast.gpu, mixed=kind) for kind in (True, False)}
        exact, rounded = fast.forward().counts, fast.gpu(mixed=True).counts
        differ = [float((rounded[name] != exact[name]).float().mean()) for name in exact]
        note = f"time in mixed precision over exact; counts differ in {max(differ):.2%} of a layer"
    else:
        few = fast.cut(images=1)
        kinds = {True: torch.bfloat16, False: torch.float32}
        work = {kind: Convolutions(few, dtype=dtype).run for kind, dtype in kinds.items()}
        note = (
            "time of dense convolutions in bfloat16 over float32 (a CPU gains where it has such "
            "arithmetic); it rounds currents to 8 bits, so spikes would differ: not used on CPUs"
        )
    with timing.threads(bench.threads):
        found = timing.interleaved(work, bench.sizes.repeats, bench.device)
    ratio = found[True] / found[False]
    return {"tips.memory.mixed_precision": Measured(ratio, note, holds(ratio < 1))}


@measures
def lazy_loading(bench: Bench) -> dict[str, Measured]:
    """Memory after opening the training images, lazily and all at once."""
    images = bench.images("fast")
    lazy, eager = (
        memory.peaks(work, (images, 1), [(images, 0)])[0].above_start / 1e6
        for work in (open_lazily, open_eagerly)
    )
    note = (
        f"MB above start when {len(images):,} images are opened and one batch is read, against "
        f"{eager:.1f} MB when all are read; frames are made when needed, never stored"
    )
    return {"tips.memory.lazy_loading": Measured(lazy, note, holds(lazy < eager))}


def open_lazily(images, number: int) -> np.ndarray:
    """One batch, mapped."""
    return images.images[: number or BATCH]


def open_eagerly(images, number: int) -> np.ndarray:
    """All images (or ``number``) in memory."""
    return images.images[: number or None]


@measures
def batch_size(bench: Bench) -> dict[str, Measured]:
    """The batch size from which more images at once gain nothing."""
    with timing.threads(bench.threads):
        found, rates = best_batch(bench.workloads["fast"], max(bench.sizes.images), bench.device)
    gain = rates[found] / rates[min(rates)]
    note = (
        f"images at once from which twice as many gain less than 5 %; {rates[found]:.0f} images/s "
        f"there, {gain:.2f} times those of batches of {min(rates)}"
    )
    return {"tips.memory.batch_size": Measured(found, note, holds(gain > 1.05))}


def best_batch(workload: Workload, largest: int, device: str) -> tuple[int, dict[int, float]]:
    """Double the batch until it gains less than 5 % or memory runs out.

    Returns the size found, and images per second (forward pass and local update) of all tried.
    """
    rates: dict[int, float] = {}
    size = 4
    while size <= largest:
        work = {"update": workload.cut(images=size).update}
        try:
            rates[size] = size / timing.interleaved(work, 2, device)["update"]
        except torch.cuda.OutOfMemoryError:
            break
        if size > 4 and rates[size] < 1.05 * rates[size // 2]:
            break
        size *= 2
    return max(rates, key=rates.get), rates


@measures
def cleaning(bench: Bench) -> dict[str, Measured]:
    """What the parameter ``keep_checkpoints`` leaves of ten checkpoints."""
    state = {"state": torch.zeros(250_000)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(10):
            checkpoint.save(folder / f"last-{number}.safetensors", state, {})
            checkpoint.keep(folder, "last-*.safetensors", bench.params.keep_checkpoints)
        left = len(list(folder.iterdir()))
    note = "checkpoints left of ten; the parameter keep_checkpoints, always on"
    return {"tips.memory.checkpoints": Measured(left, note, holds(left < 10))}


@measures
def workers(bench: Bench) -> dict[str, Measured]:
    """Loader processes: cores - 2 against none."""
    images, cores = bench.images("fast"), os.cpu_count() or 1
    advised = max(cores - 2, 0)
    tried = sorted({0, 1, advised})
    times = {n: loading.milliseconds(images, bench.sizes.load, n, 1) for n in tried}
    told = ", ".join(f"{n}: {value:.2f} ms" for n, value in times.items())
    best = min(times, key=times.get)
    note = (
        f"loader processes that are fastest; ms per batch with their start, {told}; the guide's "
        f"rule gives {advised} here; parameter workers"
    )
    return {"tips.speed.workers": Measured(best, note, holds(best == advised))}


@measures
def asynchronous(bench: Bench) -> dict[str, Measured]:
    """The most that loading ahead could save: its share of a training batch."""
    table = trained(bench, "fast").stages.set_index("stage")
    share = float(table.loc["loading", "share"])
    note = (
        "share of a fast training batch that is spent on loading, all that loading ahead could "
        "hide; parameters workers and prefetch"
    )
    return {"tips.speed.asynchronous": Measured(share, note, holds(share > 0.01))}


@measures
def cuda_graphs(bench: Bench) -> dict[str, Measured]:
    """The GPU backend's parameter ``cuda_graphs``, on a slow batch."""
    if bench.device == "cpu":
        return {"tips.speed.cuda_graphs": absent(NO_GPU)}
    slow = bench.workloads["slow"]
    work = {graphs: partial(slow.gpu, cuda_graphs=graphs) for graphs in (True, False)}
    found = timing.interleaved(work, bench.sizes.repeats, bench.device)
    ratio = found[True] / found[False]
    note = "time of a slow batch's forward pass from a graph over launches one by one"
    return {"tips.speed.cuda_graphs": Measured(ratio, note, holds(ratio < 1))}


@measures
def small_data(bench: Bench) -> dict[str, Measured]:
    """How well the first batches foretell the rest."""
    found = trained(bench, "fast")
    table = found.stages.set_index("stage")
    later = found.seconds / found.batches - float(table.loc["loading", "seconds"])
    ratio = found.early / later
    first = max(1, found.batches // 10)
    note = f"time per batch of the first {first} over that of all {found.batches}, fast task"
    return {"tips.speed.small_data": Measured(ratio, note, holds(abs(ratio - 1) < 0.2))}
