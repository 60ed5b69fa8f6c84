"""Tasks on disk: built once into HDF5, read lazily, handed out in batches.

One file (:mod:`ltgate.data.task_file`) holds the images of a task's classes from one pool of a
source; the split into training and validation is a seeded choice of rows in memory. The test pool
has a file of its own, built from the source's test files when ``split="test"`` is asked for and
never opened otherwise. Tasks that differ in rate or duration only share a file.
"""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from ltgate import files, paths
from ltgate.data import task_file
from ltgate.data.sources import SOURCES, Source, of
from ltgate.data.streams import Streams
from ltgate.data.task_file import Rows
from ltgate.data.tasks import TaskSpec
from ltgate.declare import Group, Whole
from ltgate.errors import UserError

if TYPE_CHECKING:
    from ltgate.params import Params

SPLITS = ("train", "validation", "test")
TEST_MARK = "-test.h5"  # ends the name of every task file with test images


class SplitParameters(Group, late=True):
    """How many images, and which."""

    train_images: Whole = 0
    """training images per task; 0 = all"""
    validation_images: Whole = 0
    """validation images per task; 0 = all"""
    test_images: Whole = 0
    """test images per task; 0 = all"""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """share of the training images held back for validation"""


class LoaderParameters(Group, compute=True):
    """Loading."""

    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """loader processes; 0 = none"""
    prefetch: Annotated[int, Field(ge=1, le=1024)] = 2
    """batches each loader process keeps ready"""


def is_test_file(path: str | Path) -> bool:
    """Whether ``path`` names a file with test images, of a source or of a task."""
    sources = [getattr(kind, "test_files", ()) for kind in SOURCES.values()]
    return any(PurePath(path).match(mark) for mark in (f"*{TEST_MARK}", *chain(*sources)))


def at_rate(params: "Params", task: TaskSpec, rate: float) -> TaskSpec:
    """``task`` at another frame rate (Hz): an image is shown as long, a stream keeps its frames."""
    streamed = hasattr(of(params), "stream_shape")
    duration = task.frames * 1000 / rate if streamed else task.duration_ms
    return task.model_copy(update={"frame_rate_hz": rate, "duration_ms": duration})


@dataclass(frozen=True, eq=False)
class TaskImages:
    """One split of one task.

    Attributes:
        task: What is shown, and how fast.
        split: ``train``, ``validation`` or ``test``.
        images: uint8 [N, (frames, channels,) height, width], read when indexed.
        labels: int64 [N], the classes of the source (0-9 for MNIST).
        fingerprint: Text that is equal for equal images in equal order: from the source's content,
            the classes, and the rows that split, seed and limits chose.
    """

    task: TaskSpec
    split: str
    images: Rows
    labels: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> "Batch":
        """The batch of these positions."""
        return Batch(self.images[indices], self.labels[indices], indices, self.task)


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one task.

    Attributes:
        images: uint8 [B, (frames, channels,) height, width].
        labels: int64 [B].
        indices: int64 [B], positions in the split.
        task: Their task.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    task: TaskSpec

    def __len__(self) -> int:
        return len(self.labels)


def open_task(params: "Params", task: TaskSpec, split: str, seed: int) -> TaskImages:
    """Open one split of ``task``; its HDF5 file is built when it is not there or damaged.

    The pool of training images is divided by a permutation that depends on the seed and the
    classes: the first ``validation_fraction`` of it is validation, the rest training, but no class
    is in validation alone; a limit keeps the first rows of its part. The test split is the whole
    test pool whatever the seed; its limit takes evenly spaced rows. Rows keep the order of the
    source.

    Args:
        params: Reads ``source``, ``data_folder``, ``validation_fraction``, ``train_images``,
            ``validation_images`` and ``test_images`` (at most so many images, 0 = all).
        task: Its classes choose the images.
        split: ``train``, ``validation`` or ``test``.
        seed: Of the division into training and validation.

    Raises:
        UserError: The split is unknown, a file of the source is missing or damaged, the source has
            not all classes of the task, or the split would be empty.
    """
    if split not in SPLITS:
        raise UserError(f"split={split!r}; allowed are {', '.join(SPLITS)}")
    origin = of(params, seed)
    frames = getattr(origin, "stream_shape", (task.frames,))[0]
    if task.frames != frames:
        raise UserError(
            f"task {task.name!r}: shows {task.frames} frames; a sample of {origin.name} has "
            f"{frames}: at {task.frame_rate_hz:g} Hz its duration_ms is "
            f"{frames * 1000 / task.frame_rate_hz:g}"
        )
    rows = _rows(origin, task, pool="test" if split == "test" else "train")
    labels = rows.arrays["labels"].astype(np.int64)
    if split == "test":
        number = min(params.test_images or len(labels), len(labels))
        indices = np.arange(number) * len(labels) // number
    else:
        limit = params.train_images if split == "train" else params.validation_images
        indices = _part(labels, task, split, seed, params.validation_fraction, limit)
    if len(indices) == 0:
        raise UserError(
            f"task {task.name!r}: {len(labels)} images of {origin.name} leave none for "
            f"{split} at validation_fraction={params.validation_fraction}; at least 1 is needed"
        )
    rows.indices = indices
    key = json.dumps([rows.about["source_sha256"], sorted(task.classes)])
    fingerprint = hashlib.sha256(key.encode() + indices.tobytes()).hexdigest()[:16]
    return TaskImages(task, split, rows, labels[indices], fingerprint)


def batches(
    images: TaskImages,
    batch_size: int,
    generator: np.random.Generator | None = None,
    workers: int = 0,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """All images of a split once, in batches; the last one may be smaller.

    The batches and their order are the same for every number of workers.

    Args:
        images: The split.
        batch_size: Images of a batch.
        generator: Shuffles (one permutation, drawn at the call); None keeps the split's order.
        workers: Processes that read ahead; 0 reads here, which is faster while the images are in
            the operating system's file cache.
        prefetch: Batches that each worker holds ready.
    """
    order = np.arange(len(images)) if generator is None else generator.permutation(len(images))
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if workers == 0:
        return map(images.__getitem__, parts)
    import torch
    from torch.utils.data import DataLoader

    loader = DataLoader(
        images,
        sampler=parts,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch,
        generator=torch.Generator(),  # else the loader would draw from the global one
    )
    return iter(loader)


def _part(
    labels: np.ndarray, task: TaskSpec, split: str, seed: int, fraction: float, limit: int
) -> np.ndarray:
    """Rows of the training or validation part of the rows with these labels; int64, ascending."""
    order = np.random.default_rng([seed, *sorted(task.classes)]).permutation(len(labels))
    held_out = order[: round(len(labels) * fraction)]
    part = order[len(held_out) :]
    rare = held_out[np.isin(labels[held_out], labels[part], invert=True)]
    # Of a class that training would lack, the first image held out is learned instead.
    rare = rare[np.unique(labels[rare], return_index=True)[1]] if len(part) else rare[:0]
    kept = np.isin(held_out, rare, invert=True)
    part = np.append(rare, part) if split == "train" else held_out[kept]
    return np.sort(part[: limit or None])


def _rows(origin: Source, task: TaskSpec, pool: str) -> Rows:
    """All rows of the task file of a pool, built when it is missing or damaged."""
    identity = origin.identity(pool)
    classes = sorted(task.classes)
    key = hashlib.sha256(json.dumps([identity, classes]).encode()).hexdigest()[:12]
    kind = origin.name.partition(":")[0]
    label = "_".join(map(str, classes))[:40]
    path = paths.data() / "tasks" / f"{kind}-{label}-{key}-{pool}.h5"
    with contextlib.suppress(FileNotFoundError, ValueError):
        return task_file.read(path, identity)
    with files.lock(path.with_suffix(".lock")):
        try:
            return task_file.read(path, identity)  # another process has built it meanwhile
        except FileNotFoundError:
            pass
        except ValueError as damage:
            warnings.warn(f"{path} is damaged ({damage}); building it again", stacklevel=3)
        _build(path, origin, identity, task, pool)
        return task_file.read(path, identity)


def _build(path: Path, origin: Source, identity: str, task: TaskSpec, pool: str) -> None:
    import h5py

    images, labels = origin.read(pool)
    known = np.unique(labels).tolist()
    missing = sorted(set(task.classes) - set(known))
    if missing:
        raise UserError(
            f"task {task.name!r}: classes {missing} are not among the {pool} images of "
            f"{origin.name}; allowed are {known}"
        )
    chosen = np.isin(labels, task.classes)
    with files.atomic(path) as temporary:
        with h5py.File(temporary, "w", locking=False, userblock_size=task_file.BLOCK) as file:
            if isinstance(images, Streams):
                rows, shape = np.flatnonzero(chosen), images.shape
                starts = np.cumsum([0, *np.diff(images.starts)[rows]])
                file["starts"] = starts
                events = file.create_dataset("events", (starts[-1],), np.uint32)
                for row, begin, end in zip(rows, starts[:-1], starts[1:], strict=True):
                    if begin < end:
                        events[begin:end] = images.events[slice(*images.starts[row : row + 2])]
            else:
                file["images"], shape = images[chosen], images.shape[1:]
            file["labels"] = labels[chosen]
            # The task that it was built for; others of the same classes share the file.
            told = {f"task_{name}": value for name, value in task.model_dump().items()}
            told |= {"source": origin.name, "source_sha256": identity}
            told |= {"pool": pool, "shape": shape}
            file.attrs.update(told)
        task_file.seal(temporary, shape, identity)
