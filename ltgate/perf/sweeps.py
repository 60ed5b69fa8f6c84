"""Time and memory against one size at a time, and the exponent k of size^k that fits them best."""

import contextlib
import io
import tempfile
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from ltgate import paths
from ltgate.data.store import open_task
from ltgate.errors import UserError
from ltgate.growth import with_exponents
from ltgate.network import Network, create
from ltgate.neurons import Dynamics
from ltgate.params import Params
from ltgate.perf import loading, timing
from ltgate.perf.bench import BATCH, TASKS, Bench, Workload, calibrated, to_device
from ltgate.perf.guide import Facts, need_minutes
from ltgate.perf.training import train

COLUMNS = ["sweep", "x", "quantity", "value", "unit", "exponent"]
LEAST_MB = 0.1  # what a process takes varies by as much; smaller values count as this
EPOCHS = (1, 2, 3)
DEEP = 32  # channels of every layer in the sweep over depth
GRID_IMAGES = 64  # a task
GRID_COMBINATIONS, GRID_EPOCHS = (1, 2, 4), (4, 8, 16)

Row = tuple[str, int, str, float, str]


@cache
def table(bench: Bench) -> pd.DataFrame:
    """All sweeps, measured once a bench, as ``figures.scaling`` takes them.

    Columns: ``sweep``, what is varied; ``x``, its size; ``quantity``, ``time`` or ``memory`` (peak
    above start; none of grids); ``value`` in ``unit`` (s or MB); ``exponent``, fitted, the same for
    a whole curve.
    """
    extent, fast = bench.extent, bench.workloads["fast"]
    drive = np.ones(max(extent.steps), np.float32)
    long = replace(fast.cut(images=8), steps=replace(fast.steps, drive=drive))
    images = extent.training[0]
    with timing.threads(bench.threads):
        rows = [
            *_passes(bench, "batch size", {n: fast.cut(images=n) for n in extent.images}),
            *_passes(bench, "time steps", {n: long.cut(steps=n) for n in extent.steps}),
            *_passes(bench, "convolutions", _deep(bench, images=8)),
            *_loaders(bench),
            *_training(bench, "training images", {n: (n, 1) for n in extent.training}),
            *_training(bench, "epochs", {n: (images, n) for n in EPOCHS}),
            *_grids(bench),
        ]
    return with_exponents(pd.DataFrame(rows, columns=COLUMNS[:-1]))


def _sweep(bench: Bench, name: str, works: dict[int, partial], warm: partial) -> list[Row]:
    """Time and memory of each work, by its size; ``warm`` is a small one."""
    used = bench.peaks(warm, list(works.values()))
    return [(name, x, "time", taken, "s") for x, taken in bench.times(works).items()] + [
        _memory(name, x, peak) for x, peak in zip(works, used, strict=True)
    ]


def _memory(name: str, x: int, used: int) -> Row:
    return name, x, "memory", max(used / 1e6, LEAST_MB), "MB"


def _passes(bench: Bench, name: str, workloads: dict[int, Workload]) -> list[Row]:
    """Forward pass and local update of each workload."""
    warm = partial(Workload.update, next(iter(workloads.values())).cut(1, 10))
    works = {x: partial(Workload.update, workload) for x, workload in workloads.items()}
    return _sweep(bench, name, works, warm)


def _training(bench: Bench, name: str, points: dict[int, tuple[int, int]]) -> list[Row]:
    """The published method on some slow images, several times over."""
    work = partial(learn, bench.published, bench.workloads["slow"])
    works = {x: partial(work, number, passes) for x, (number, passes) in points.items()}
    return _sweep(bench, name, works, partial(work, BATCH, 1))


def learn(params: Params, workload: Workload, number: int, passes: int) -> None:
    """``passes`` over ``number`` images of the slow task, opened here."""
    images = open_task(params, TASKS["slow"], "train", 0)
    train(params, workload, images, passes * -(-number // BATCH))


def _loaders(bench: Bench) -> list[Row]:
    """Reading an epoch's batches with several loader processes, and what these alone hold."""
    images, name = bench.images("fast"), "loader processes"
    number = min(bench.extent.load, len(images) // BATCH)
    rows = []
    for workers in bench.extent.workers:
        start = time.perf_counter()
        used = loading.read(images, number, workers)
        taken = time.perf_counter() - start
        rows += [(name, workers, "time", taken, "s"), _memory(name, workers, used)]
    return rows


def _deep(bench: Bench, images: int) -> dict[int, Workload]:
    """Networks of equal layers (32 channels, 14 x 14) at 5 % activity, by number of layers."""
    work = _deepest(bench).cut(images)
    dynamics, layers = work.network.dynamics, work.network.layers
    return {
        n: to_device(replace(work, network=Network(dynamics, layers[:n])), bench.device)
        for n in bench.extent.depth
    }


@cache
def _deepest(bench: Bench) -> Workload:
    most = max(bench.extent.depth)
    work = bench.workloads["fast"]
    network = create(
        Dynamics(), [DEEP] * most, [2] + [1] * (most - 1), [], np.random.default_rng(0),
        work.network.layers[0].in_shape,
    )  # fmt: skip
    return calibrated(replace(work, network=network, device="cpu"), images=4)


def _grids(bench: Bench) -> list[Row]:
    """Trials of the published grid, one after the other: seconds of all of them together."""
    epochs = GRID_EPOCHS[0]
    _trials(bench, 1, epochs)  # compiles, and makes the task files
    many = {number: _trials(bench, number, epochs) for number in GRID_COMBINATIONS}
    long = {n: many[1] if n == epochs else _trials(bench, 1, n) for n in GRID_EPOCHS}
    sweeps = {"combinations of a grid": many, "epochs of a grid": long}
    return [(name, x, "time", s, "s") for name, found in sweeps.items() for x, s in found.items()]


def _trials(bench: Bench, combinations: int, epochs: int) -> float:
    """Seconds of a grid of so many combinations, each of so many epochs, all made anew."""
    from ltgate import grid as grids  # a scheduler that no fresh process needs
    from ltgate.grid.spec import GridFile

    eta = [1e-5 * n for n in range(1, combinations + 1)]  # so small: see Bench.published
    file = GridFile(axes={"eta": eta}, methods=["lt_gate_published"])
    base = bench.published.with_(
        name="bench-grid", cluster="none", control=False, curve_points=1, threads=bench.threads,
        epochs=epochs, train_images=GRID_IMAGES, validation_images=GRID_IMAGES, keep_features=False,
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as scratch,
        paths.environment(LTGATE_DATA_CACHE=str(paths.data()), LTGATE_HOME=scratch),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        made = grids.Grid.create(file, Path(), base)
        failed = grids.run(made)["failed"]
        found = grids.points(made)
    if failed:
        raise UserError(f"the benchmark's grid: {found['error'].max()}")
    return found["seconds"].sum()


def exponents(bench: Bench) -> Facts:
    """Exponents of the sweeps; memory (MB) of a loader process."""
    need_minutes(bench)
    frame = table(bench)
    k = frame.groupby(["sweep", "quantity"])["exponent"].first()
    loaders = frame[(frame["sweep"] == "loader processes") & (frame["quantity"] == "memory")]
    return {
        "where": bench.where,
        "batch_memory": float(k["batch size", "memory"]),
        "batch_time": float(k["batch size", "time"]),
        "epochs_time": float(k["epochs", "time"]),
        "images_time": float(k["training images", "time"]),
        "worker_megabytes": float((loaders["value"] / loaders["x"]).max()),
    }


def another_layer(bench: Bench) -> Facts:
    """Cost of one more convolution: slope over networks of equal layers, batch of 32."""
    need_minutes(bench)
    works = _deep(bench, BATCH)
    forward = bench.times({n: work.forward for n, work in works.items()})
    update = bench.times({n: work.update for n, work in works.items()})
    fewest, most = min(works), max(works)
    ends = [works[n].update for n in (fewest, most)]
    shallow, deep = bench.peaks(works[fewest].cut(1, 10).update, ends)
    return {
        "channels": DEEP,
        "where": bench.where,
        "memory": max((deep - shallow) / (most - fewest), 0.0),
        "forward": _slope(forward),
        "update": _slope(update),
    }


def _slope(values: dict[int, float]) -> float:
    """Least-squares slope of value over number of layers."""
    return float(np.polyfit(list(values), list(values.values()), 1)[0])


def grid(bench: Bench) -> Facts:
    """Exponents of the published grid's cost, one trial at a time."""
    need_minutes(bench)
    k = table(bench).groupby("sweep")["exponent"].first()
    return {
        "combinations": float(k["combinations of a grid"]),
        "epochs": float(k["epochs of a grid"]),
        "images": GRID_IMAGES,
    }
