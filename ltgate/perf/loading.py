"""How long batches take to read, with any number of loader processes, and what memory they need."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
import psutil

from ltgate import paths
from ltgate.data.store import Batch, TaskImages, batches, open_task
from ltgate.params import Params
from ltgate.perf import fresh, timing
from ltgate.perf.bench import BATCH, TASKS, Bench
from ltgate.perf.guide import Facts


def endless(images: TaskImages, workers: int = 0) -> Iterator[Batch]:
    """Shuffled full batches of 32, epoch after epoch."""
    order = np.random.default_rng(0)
    size = min(BATCH, len(images))
    while True:
        for batch in batches(images, size, order, workers):
            if len(batch) == size:
                yield batch


def read(images: TaskImages, number: int, workers: int = 0) -> int:
    """Read ``number`` batches and let them go; bytes that the loader processes alone hold."""
    flow = endless(images, workers)
    for batch in islice(flow, number):
        batch.images.sum()  # every byte has arrived
    loaders = multiprocessing.active_children()
    return sum(psutil.Process(loader.pid).memory_full_info().uss for loader in loaders)


def milliseconds(images: TaskImages, number: int, workers: int = 0, repeats: int = 2) -> float:
    """Shortest time per batch (ms), the start of the loader processes included."""
    work = {"read": partial(read, images, number, workers)}
    return timing.interleaved(work, repeats)["read"] / number * 1e3


def first_load(bench: Bench) -> Facts:
    """First load of both tasks' training images, a batch of 32, and memory."""
    images = [bench.images(task) for task in TASKS]  # downloads, where they are needed, are over
    with (
        tempfile.TemporaryDirectory() as folder,
        paths.environment(
            LTGATE_DATA_CACHE=folder,
            LTGATE_DATA=os.environ.get("LTGATE_DATA") or str(paths.data() / "mnist"),
        ),
    ):
        first = timing.seconds(lambda: [bench.images(task) for task in TASKS])
    later = timing.seconds(lambda: [bench.images(task) for task in TASKS])
    number = bench.extent.load
    works = [partial(open_and_read, bench.published, count) for count in (1, 0)]
    return {
        "source": bench.params.source,
        "first": first,
        "later": later,
        "batches": number,
        "batch_ms": milliseconds(images[0], number, repeats=bench.extent.repeats),
        "opened": fresh.peaks(works[0], works[1:])[0],
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
    works = [partial(take, images, number) for number in (BATCH, len(images))]
    lazy, eager = fresh.peaks(partial(take, images, 1), works)
    return {"images": len(images), "lazy": lazy / 1e6, "eager": eager / 1e6}


def take(images: TaskImages, number: int) -> np.ndarray:
    """The first images, read into memory."""
    return images.images[:number]


def loader_processes(bench: Bench) -> Facts:
    """Loader processes: cores - 2 against none."""
    advised = max((os.cpu_count() or 1) - 2, 0)
    images, number = bench.images("fast"), bench.extent.load
    times = {n: milliseconds(images, number, n, 1) for n in sorted({0, 1, advised})}
    tried = ", ".join(f"{n}: {value:.2f} ms" for n, value in times.items())
    return {"best": min(times, key=times.get), "advised": advised, "tried": tried}
