r"""Time and memory against one size at a time, and the exponent k of size^k that fits them best.

The exponent is the slope of the least-squares line through (log size, log value): 1 is linear,
0 is flat.
"""

import multiprocessing
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import pandas as pd

from ltgate.data.store import TaskImages, open_task
from ltgate.network import Network, create
from ltgate.neurons import Dynamics
from ltgate.params import Params
from ltgate.perf import memory, timing
from ltgate.perf.bench import BATCH, TASKS, Bench, Workload, calibrated, to_device
from ltgate.perf.loading import endless
from ltgate.perf.training import train

COLUMNS = ["sweep", "x", "quantity", "value", "unit", "exponent"]
LEAST_MB = 0.1  # what a process takes varies by as much; smaller values count as this
EPOCHS = (1, 2, 3)
DEEP = 32  # channels of every layer in the sweep over depth


def table(bench: Bench) -> pd.DataFrame:
    """All sweeps, measured once a bench, as ``figures.scaling`` takes them.

    Columns: ``sweep``, what is varied; ``x``, its size; ``quantity``, ``time`` or ``memory`` (peak
    above start); ``value`` in ``unit`` (s or MB); ``exponent``, fitted, the same for a whole curve.
    """
    return bench.kept("sweeps", lambda: _measured(bench))


def _measured(bench: Bench) -> pd.DataFrame:
    with timing.threads(bench.threads):
        rows = [
            *batch_size(bench), *time_steps(bench), *depth(bench), *loaders(bench),
            *training_images(bench), *epochs(bench),
        ]  # fmt: skip
    return _fitted(pd.DataFrame(rows, columns=COLUMNS[:-1]))


def exponent(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of the least-squares line through (log x, log y); NaN for fewer than two sizes."""
    if len(set(x)) < 2:
        return float("nan")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def exponent_of(frame: pd.DataFrame, sweep: str, quantity: str) -> float:
    """The fitted exponent of one curve of :func:`table`."""
    curve = frame[(frame["sweep"] == sweep) & (frame["quantity"] == quantity)]
    return float(curve["exponent"].iloc[0])


def _fitted(frame: pd.DataFrame) -> pd.DataFrame:
    frame["exponent"] = np.nan
    for _, curve in frame.groupby(["sweep", "quantity"]):
        fitted = exponent(curve["x"].to_numpy(float), curve["value"].to_numpy(float))
        frame.loc[curve.index, "exponent"] = fitted
    return frame


def _passes(bench: Bench, sweep: str, works: dict[int, Workload]) -> list[tuple]:
    """Time and memory of forward pass and local update of each workload."""
    calls = {x: work.update for x, work in works.items()}
    found = timing.interleaved(calls, bench.sizes.repeats, bench.device)
    rows = [(sweep, x, "time", value, "s") for x, value in found.items()]
    if bench.device == "cpu":
        warm = (next(iter(works.values())).cut(1, 10),)
        arguments = [(work,) for work in works.values()]
        found = memory.peaks(Workload.update, warm, arguments, bench.threads)
        peaks = [peak.above_start for peak in found]
    else:
        peaks = [memory.on_gpu(work.update) for work in works.values()]
    return rows + [_memory(sweep, x, peak) for x, peak in zip(works, peaks, strict=True)]


def _memory(sweep: str, x: int, peak: int) -> tuple:
    return sweep, x, "memory", max(peak / 1e6, LEAST_MB), "MB"


def batch_size(bench: Bench) -> list[tuple]:
    """Forward pass and local update of fast batches of several sizes."""
    fast = bench.workloads["fast"]
    return _passes(bench, "batch size", {n: fast.cut(images=n) for n in bench.sizes.images})


def time_steps(bench: Bench) -> list[tuple]:
    """The same for 8 images and several durations."""
    fast = bench.workloads["fast"].cut(images=8)
    longest = max(bench.sizes.steps)
    drive = np.ones(longest, np.float32)
    fast = replace(fast, steps=replace(fast.steps, drive=drive))
    return _passes(bench, "time steps", {n: fast.cut(steps=n) for n in bench.sizes.steps})


def depth(bench: Bench) -> list[tuple]:
    """The same for 8 images and networks of 1, 2, ... equal convolutions."""
    return _passes(bench, "convolutions", deep(bench, images=8))


def deep(bench: Bench, images: int) -> dict[int, Workload]:
    """Networks of equal layers (32 channels, 14 x 14) at 5 % activity, by number of layers."""
    work = bench.kept("deep", lambda: _deepest(bench)).cut(images)
    return {
        layers: to_device(replace(work, network=_first(work.network, layers)), bench.device)
        for layers in bench.sizes.depth
    }


def _deepest(bench: Bench) -> Workload:
    most = max(bench.sizes.depth)
    work = bench.workloads["fast"]
    network = create(
        Dynamics(), [DEEP] * most, [2] + [1] * (most - 1), [], np.random.default_rng(0),
        work.network.layers[0].in_shape,
    )  # fmt: skip
    work = replace(work, network=network, device="cpu")
    return calibrated(work, images=4)


def _first(network: Network, layers: int) -> Network:
    return Network(network.dynamics, network.layers[:layers])


def loaders(bench: Bench) -> list[tuple]:
    """Reading an epoch's batches with several loader processes, and their own memory."""
    images = bench.images("fast")
    number = min(bench.sizes.load, len(images) // BATCH)
    rows = []
    for workers in bench.sizes.workers:
        taken, used = load(images, number, workers)
        rows.append(("loader processes", workers, "time", taken, "s"))
        rows.append(_memory("loader processes", workers, used))
    return rows


def load(images: TaskImages, number: int, workers: int) -> tuple[float, int]:
    """Seconds for ``number`` batches, and what the loader processes hold for themselves (bytes)."""
    flow = endless(images, workers)
    used = 0

    def read() -> None:
        nonlocal used
        for batch in islice(flow, number):
            batch.images.sum()
        used = sum(memory.private(child.pid) for child in multiprocessing.active_children())

    return timing.seconds(read), used


def training_images(bench: Bench) -> list[tuple]:
    """One pass of the published method over several numbers of slow images."""
    return _training(bench, "training images", {n: (n, 1) for n in bench.sizes.training})


def epochs(bench: Bench) -> list[tuple]:
    """Several passes over the smallest of these numbers."""
    number = bench.sizes.training[0]
    return _training(bench, "epochs", {n: (number, n) for n in EPOCHS})


def _training(bench: Bench, sweep: str, points: dict[int, tuple[int, int]]) -> list[tuple]:
    slow = bench.workloads["slow"]
    calls = {
        x: partial(learn, bench.published, slow, number, passes)
        for x, (number, passes) in points.items()
    }
    found = timing.interleaved(calls, bench.sizes.repeats, bench.device)
    rows = [(sweep, x, "time", value, "s") for x, value in found.items()]
    if bench.device != "cpu":
        return rows + [_memory(sweep, x, memory.on_gpu(call)) for x, call in calls.items()]
    arguments = [(bench.published, slow, number, passes) for number, passes in points.values()]
    peaks = memory.peaks(learn, (bench.published, slow, BATCH, 1), arguments, bench.threads)
    return rows + [
        _memory(sweep, x, peak.above_start) for x, peak in zip(points, peaks, strict=True)
    ]


def learn(params: Params, workload: Workload, number: int, passes: int) -> None:
    """``passes`` over ``number`` images of the slow task, opened here."""
    images = open_task(params, TASKS["slow"], "train", 0)
    train(params, workload, images, passes * -(-number // BATCH))
