"""Training: batches read and learned, stages of a batch, validation, checkpoints."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from functools import cache, partial
from itertools import islice
from operator import getitem
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch

from ltgate import checkpoint, methods, paths
from ltgate.data.store import Batch, TaskImages, batches, open_task
from ltgate.methods.base import SpikingLearner
from ltgate.params import Params
from ltgate.perf import measure
from ltgate.perf.bench import BATCH, EPOCH_BATCHES, TASKS, VALIDATION_IMAGES, Bench, Workload
from ltgate.perf.guide import Facts
from ltgate.processes import on_threads
from ltgate.stages import seconds_by_stage, stage

# ---- reading


def endless(images: TaskImages, workers: int = 0) -> Iterator[Batch]:
    """Shuffled full batches of 32, epoch after epoch."""
    order = np.random.default_rng(0)
    size = min(BATCH, len(images))
    while True:
        flow = batches(images, size, order, workers)
        yield from (batch for batch in flow if len(batch) == size)


def read(images: TaskImages, number: int, workers: int = 0) -> int:
    """Read ``number`` batches and let them go; bytes that the loader processes alone hold."""
    flow = endless(images, workers)
    for batch in islice(flow, number):
        batch.images.sum()  # every byte has arrived
    loaders = multiprocessing.active_children()
    return sum(psutil.Process(loader.pid).memory_full_info().uss for loader in loaders)


def milliseconds(images: TaskImages, number: int, workers: int = 0) -> float:
    """Time per batch (ms), the start of the loader processes included."""
    return measure.seconds(partial(read, images, number, workers)) / number * 1e3


def first_load(bench: Bench) -> Facts:
    """First load of both tasks' training images, a batch of 32, and memory."""
    images = [bench.images(task) for task in TASKS]  # downloads, where they are needed, are over

    def load() -> None:
        for task in TASKS:
            bench.images(task)

    files = os.environ.get("LTGATE_DATA") or str(paths.data() / "mnist")
    with (
        tempfile.TemporaryDirectory() as folder,
        paths.environment(LTGATE_DATA_CACHE=folder, LTGATE_DATA=files),
    ):
        first = measure.seconds(load)
    number = bench.extent.load
    works = [partial(open_and_read, bench.published, count) for count in (1, 0)]
    return {
        "source": bench.params.source,
        "first": first,
        "later": measure.seconds(load),
        "batches": number,
        "batch_ms": milliseconds(images[0], number),
        "opened": measure.peaks(works[0], works[1:])[0],
        "images": sum(map(len, images)),
    }


def open_and_read(params: Params, number: int) -> None:
    """Open both tasks and read ``number`` batches of each; 0 = all."""
    for task in TASKS.values():
        images = open_task(params, task, "train", 0)
        read(images, number or -(-len(images) // BATCH))


def lazy_and_eager(bench: Bench) -> Facts:
    """Memory (MB) after opening the training images, lazily and all at once."""
    images = bench.images("fast")
    numbers = (1, BATCH, len(images))
    warm, *works = [partial(getitem, images.images, slice(number)) for number in numbers]
    lazy, eager = measure.peaks(warm, works)
    return {"images": len(images), "lazy": lazy / 1e6, "eager": eager / 1e6}


# ---- learning


class Training(NamedTuple):
    """Some batches of training, timed.

    Attributes:
        batches: How many.
        batch: Seconds of one.
        early: Seconds of one over the first tenth of them (at least one).
        stages: Seconds of each stage of a batch; what no stage covers is ``rest``.
    """

    batches: int
    batch: float
    early: float
    stages: dict[str, float]


def learner(params: Params, workload: Workload) -> SpikingLearner:
    """The published method: every layer learns in every batch; at the workload's 5 % activity."""
    made = methods.create("lt_gate_published", params, np.random.default_rng(0))
    made.network.load_state_dict(workload.network.state_dict())
    return made


def train(params: Params, workload: Workload, images: TaskImages, number: int) -> Training:
    """Load and learn ``number`` batches of ``images`` (again and again, if they are fewer)."""
    pupil = learner(params, workload)
    flow = endless(images)
    ends = []
    with seconds_by_stage(workload.device) as sums:
        start = time.perf_counter()
        for _ in range(number):
            with stage("loading"):
                batch = next(flow)
            pupil.learn(images, batch)
            ends.append(time.perf_counter() - start)
    first = max(1, number // 10)
    sums["rest"] = ends[-1] - sum(sums.values())
    stages = {name: seconds / number for name, seconds in sums.items()}
    return Training(number, ends[-1] / number, ends[first - 1] / first, stages)


@cache
def trained(bench: Bench, task: str) -> Training:
    """Training on a task: a few batches, or in ``full`` an epoch; measured once a bench."""
    number = bench.extent.batches or EPOCH_BATCHES[task]
    with on_threads(bench.threads):
        workload, images = bench.workloads[task], bench.images(task)
        train(bench.published, workload, images, 1)  # what only a first batch does
        return train(bench.published, workload, images, number)


def stage_table(bench: Bench) -> pd.DataFrame:
    """Stages of a training batch: ``task``, ``stage``, ``seconds`` per batch, ``share``."""
    rows = [
        (task, name, seconds, seconds / trained(bench, task).batch)
        for task in TASKS
        for name, seconds in trained(bench, task).stages.items()
    ]
    return pd.DataFrame(rows, columns=["task", "stage", "seconds", "share"])


def epochs(bench: Bench) -> Facts:
    """An epoch of MNIST's training split with every layer learning, and parts of its batches."""
    facts: Facts = {}
    for task, number in EPOCH_BATCHES.items():
        found = trained(bench, task)
        facts |= {
            f"{task}_minutes": found.batch * number / 60,
            f"{task}_batches": number,
            f"{task}_trained": found.batches,
            f"{task}_ms": found.batch * 1e3,
            f"{task}_how": _how(found.batches, number, "batches"),
        }
    fast = trained(bench, "fast")
    return {
        **facts,
        "weights_ms": fast.stages["weight update"] * 1e3,
        "loading": fast.stages["loading"] / fast.batch,
        "first": max(1, fast.batches // 10),
        "early": fast.early / fast.batch,
    }


def _how(measured: int, number: int, what: str) -> str:
    return "measured in full" if measured == number else f"extrapolated from {measured} {what}"


def validation(bench: Bench) -> Facts:
    """Seconds of the readout's scores on the fast task's validation images."""
    images = bench.images("fast", "validation")
    number = min(bench.extent.validation or VALIDATION_IMAGES, len(images))
    pupil = learner(bench.published, bench.workloads["fast"])
    with on_threads(bench.threads):
        taken = measure.seconds(lambda: pupil.scores(images, number), bench.device)
    return {
        "seconds": taken / number * VALIDATION_IMAGES,
        "images": VALIDATION_IMAGES,
        "how": _how(number, VALIDATION_IMAGES, "images"),
    }


def checkpoints(bench: Bench) -> Facts:
    """Saving the published learner's whole state, its size, and what is left of ten checkpoints."""
    state = learner(bench.published, bench.workloads["fast"]).state()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "state.safetensors"
        taken = bench.times({"save": lambda: checkpoint.save(path, *state)})["save"]
        for number in range(10):
            checkpoint.save(folder / f"last-{number}.safetensors", {"a": torch.zeros(1)}, {})
            checkpoint.keep(folder, "last-*.safetensors", bench.params.keep_checkpoints)
        left = len(list(folder.glob("last-*")))
        return {"seconds": taken, "megabytes": path.stat().st_size / 1e6, "left": left}


def cpu_limits(bench: Bench) -> Facts:
    """Times of a batch: reading it (ms) with none, one, cores - 2 and many loader processes,
    training (ms); and of a process's first and second pass (s)."""
    images, number = bench.images("fast"), bench.extent.load
    advised, many = max((os.cpu_count() or 1) - 2, 0), max(bench.extent.workers)
    times = {n: milliseconds(images, number, n) for n in sorted({0, 1, advised, many})}
    small = bench.workloads["slow"].cut(images=1)
    first, later = measure.fresh(measure.each, measure.seconds, [small.update] * 2)
    return {
        "best": min(times, key=times.get),
        "advised": advised,
        "tried": ", ".join(f"{n}: {value:.2f} ms" for n, value in times.items()),
        "alone": times[0],
        "crowd": times[many],
        "many": many,
        "batch": trained(bench, "fast").batch * 1e3,
        "first": first,
        "later": later,
    }
