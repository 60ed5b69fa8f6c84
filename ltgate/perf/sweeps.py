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
from ltgate.network import create
from ltgate.neurons import Dynamics
from ltgate.params import Params
from ltgate.perf import measure
from ltgate.perf.bench import BATCH, TASKS, Bench, Workload, calibrated, to_device
from ltgate.perf.guide import Facts, need_minutes
from ltgate.perf.training import read, train
from ltgate.processes import on_threads

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
    passes = {
        "batch size": {n: fast.cut(images=n).update for n in extent.images},
        "time steps": {n: long.cut(steps=n).update for n in extent.steps},
        "convolutions": {n: workload.update for n, workload in deep(bench).items()},
    }
    learning, images = partial(learn, bench.published, bench.workloads["slow"]), extent.training[0]
    training = {
        "training images": {n: partial(learning, n, 1) for n in extent.training},
        "epochs": {n: partial(learning, images, n) for n in EPOCHS},
    }
    rows: list[Row] = []
    with on_threads(bench.threads):
        for name, works in passes.items():
            rows += _sweep(bench, name, works, fast.cut(1, 10).update)
        rows += _loaders(bench)
        for name, works in training.items():
            rows += _sweep(bench, name, works, partial(learning, BATCH, 1))
        rows += _grids(bench)
    return with_exponents(pd.DataFrame(rows, columns=COLUMNS[:-1]))


def exponent(size: pd.Series, cost: pd.Series) -> float:
    """The k of cost ~ size^k: slope of the least-squares line through (log size, log cost).

    1 is linear, 0 is flat; NaN for less than two sizes.
    """
    if len(set(size)) < 2:
        return float("nan")
    return float(np.polyfit(np.log(size), np.log(cost), 1)[0])


def with_exponents(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` (``sweep``, ``x``, ``quantity``, ``value``) with the ``exponent`` of each curve."""
    curves = frame.groupby(["sweep", "quantity"])[["x", "value"]]
    fitted = curves.apply(lambda curve: exponent(curve["x"], curve["value"])).rename("exponent")
    return frame.join(fitted, on=["sweep", "quantity"])


def _sweep(
    bench: Bench, name: str, works: dict[int, measure.Work], warm: measure.Work
) -> list[Row]:
    """Time and memory of each work, by its size; ``warm`` is a small one."""
    used = bench.peaks(warm, list(works.values()))
    times = [(name, x, "time", taken, "s") for x, taken in bench.times(works).items()]
    return times + [_memory(name, x, peak) for x, peak in zip(works, used, strict=True)]


def _memory(name: str, x: int, used: int) -> Row:
    return name, x, "memory", max(used / 1e6, LEAST_MB), "MB"


def learn(params: Params, workload: Workload, number: int, passes: int) -> None:
    """``passes`` of the published method over ``number`` images of the slow task, opened here."""
    images = open_task(params, TASKS["slow"], "train", 0)
    train(params, workload, images, passes * -(-number // BATCH))


def _loaders(bench: Bench) -> list[Row]:
    """Reading an epoch's batches with several loader processes, and what these alone hold."""
    images, name = bench.images("fast"), "loader processes"
    number = min(bench.extent.load, len(images) // BATCH)
    rows = []
    for workers in bench.extent.workers:
        start = time.perf_counter()
        used = read(images, number, workers)
        taken = time.perf_counter() - start
        rows += [(name, workers, "time", taken, "s"), _memory(name, workers, used)]
    return rows


@cache
def deep(bench: Bench) -> dict[int, Workload]:
    """Networks of equal layers (32 channels, 14 x 14) at 5 % activity, by number of layers."""
    most = max(bench.extent.depth)
    work = bench.workloads["fast"]
    network = create(
        Dynamics(), [DEEP] * most, [2] + [1] * (most - 1), [], np.random.default_rng(0),
        work.network.layers[0].in_shape,
    )  # fmt: skip
    made = calibrated(replace(work, network=network, device="cpu"), images=4)
    return {
        n: to_device(replace(made, network=network.upto(f"conv{n}")), bench.device)
        for n in bench.extent.depth
    }


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
        epochs=epochs, train_images=GRID_IMAGES, validation_images=GRID_IMAGES,
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


def costs(bench: Bench) -> Facts:
    """What the curves say.

    Exponents of all, ``<sweep>_<quantity>``; memory (MB) of a loader process; the batch size from
    which twice as many images gain less than 5 %, with its images per second; of one more layer the
    slopes over networks of equal layers: memory (MB), the forward pass alone and with update (s).
    """
    need_minutes(bench)
    curves = {
        keys: curve.set_index("x")
        for keys, curve in table(bench).groupby(["sweep", "quantity"], sort=False)
    }
    loaders = curves["loader processes", "memory"]["value"]
    times = curves["batch size", "time"]["value"]
    rates = times.index / times
    best = (~(rates.shift(-1) >= 1.05 * rates)).idxmax()
    forward = bench.times({n: workload.forward for n, workload in deep(bench).items()})
    return {
        **{"_".join(keys).replace(" ", "_"): x["exponent"].iloc[0] for keys, x in curves.items()},
        "worker_megabytes": (loaders / loaders.index).max(),
        "best_batch": int(best),
        "best_rate": rates[best],
        "best_gain": rates[best] / rates.iloc[0],
        "smallest": int(rates.index[0]),
        "layer_megabytes": max(_slope(curves["convolutions", "memory"]["value"]), 0.0),
        "layer_forward": _slope(pd.Series(forward)),
        "layer_update": _slope(curves["convolutions", "time"]["value"]),
        "where": bench.where,
        "images": GRID_IMAGES,
        "channels": DEEP,
    }


def _slope(costs: pd.Series) -> float:
    """Of the least-squares line of cost over size, its index."""
    return float(np.polyfit(costs.index, costs, 1)[0])
