"""Rows on data loading, and how long batches take with any number of loader processes."""

import os
import tempfile
from collections.abc import Iterator
from itertools import islice

import numpy as np

from ltgate import paths
from ltgate.data.store import Batch, TaskImages, batches, open_task
from ltgate.params import Params
from ltgate.perf import memory, timing
from ltgate.perf.bench import BATCH, TASKS, Bench
from ltgate.perf.guide import Measured, measures
from ltgate.runner.jupyter import environment


def endless(images: TaskImages, workers: int = 0) -> Iterator[Batch]:
    """Shuffled full batches of 32, epoch after epoch."""
    order = np.random.default_rng(0)
    size = min(BATCH, len(images))
    while True:
        for batch in batches(images, size, order, workers):
            if len(batch) == size:
                yield batch


def read(images: TaskImages, number: int, workers: int = 0) -> None:
    """Read ``number`` batches and let them go."""
    for batch in islice(endless(images, workers), number):
        batch.images.sum()  # every byte has arrived


def milliseconds(images: TaskImages, number: int, workers: int = 0, repeats: int = 2) -> float:
    """Shortest time per batch (ms), the start of the loader processes included."""
    work = {"read": lambda: read(images, number, workers)}
    return timing.interleaved(work, repeats)["read"] / number * 1e3


@measures
def loading(bench: Bench) -> dict[str, Measured]:
    """First load of both tasks' training images, a batch of 32, and memory."""
    images = bench.images("fast")
    bench.images("slow")  # downloads, where they are needed, are over
    with tempfile.TemporaryDirectory() as folder:
        params = _where_it_lies(bench.published)
        with environment(LTGATE_DATA_CACHE=folder):
            first = timing.seconds(
                lambda: [open_task(params, t, "train", 0) for t in TASKS.values()]
            )
    later = timing.seconds(lambda: [bench.images(task) for task in TASKS])
    per_batch = milliseconds(images, bench.sizes.load, repeats=bench.sizes.repeats)
    found = memory.peaks(open_and_read, (bench.published, 1), [(bench.published, 0)])
    count = sum(len(bench.images(task)) for task in TASKS)
    return {
        "runtime.data.initial_load": Measured(
            first,
            f"both tasks' training images from the {bench.params.source} files into HDF5; "
            f"{later:.3f} s when they are there",
        ),
        "runtime.data.batch": Measured(per_batch, f"shuffled, mean of {bench.sizes.load} batches"),
        "runtime.data.memory": Measured(
            found[0].above_start / 1e9, f"above start, while {count:,} images were opened and read"
        ),
    }


def open_and_read(params: Params, number: int) -> None:
    """Open both tasks and read ``number`` batches of each; 0 = all."""
    for task in TASKS.values():
        images = open_task(params, task, "train", 0)
        read(images, number or -(-len(images) // BATCH))


def _where_it_lies(params: Params) -> Params:
    """The same parameters naming the folder that MNIST was downloaded to."""
    if params.source != "mnist" or params.data_folder or os.environ.get("LTGATE_DATA"):
        return params
    return params.with_(data_folder=str(paths.data() / "mnist"))
