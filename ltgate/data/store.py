"""Tasks on disk: built once into HDF5, read lazily, handed out in batches.

One HDF5 file holds the images of a task's classes from one pool of a source, each image once as
bytes, each stream as its events (:mod:`ltgate.data.streams`); the split into training and
validation is a seeded choice of rows in memory. The test pool has a file of its own, built from the
source's test files when ``split="test"`` is asked for and never opened otherwise. Frames are made
when read (``ltgate.data.tasks``), so tasks that differ in rate or duration only share a file.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from pydantic import Field

from ltgate import files, paths
from ltgate.data import checksum
from ltgate.data.sources import Source, of
from ltgate.data.streams import Streams
from ltgate.data.tasks import TaskSpec
from ltgate.declare import Group, Whole
from ltgate.errors import UserError

if TYPE_CHECKING:
    from ltgate.params import Params

SPLITS = ("train", "validation", "test")
TEST_MARK = "-test.h5"  # ends the name of every task file with test images
SOURCE_TEST_MARK = "t10k-"  # begins the name of every source file with test images

_FORMAT = 1  # part of the file's name: raise it when the layout changes


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
    name = os.path.basename(os.fspath(path))
    return name.endswith(TEST_MARK) or name.startswith(SOURCE_TEST_MARK)


class Rows:
    """Some rows of an array in a file, read when indexed.

    Behaves like a read-only array: ``shape``, ``dtype``, ``len``, ``rows[i]``, ``rows[a:b]``,
    ``rows[index_array]`` (each a fresh array) and ``np.asarray(rows)`` (all of it). The file is
    mapped into memory, so processes share its pages and a pickle holds no image.
    """

    def __init__(self, stored: "_Stored", indices: np.ndarray) -> None:
        self._stored = stored
        self._indices = indices
        self._map: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, height, width), (N, channels, height, width), or with frames after N."""
        return (len(self._indices), *self._stored.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        if self._map is None:
            self._map = self._stored.map()
        rows, starts = self._indices[key], self._stored.starts
        if starts is None:
            return np.take(self._map, rows, axis=0)
        some = Streams(self._map, starts, self._stored.shape[1:]).of(np.atleast_1d(rows))
        return some.dense() if np.ndim(rows) else some.dense()[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_map": None}


@dataclass(frozen=True, eq=False)
class TaskImages:
    """One split of one task.

    Attributes:
        task: What is shown, and how fast.
        split: ``train``, ``validation`` or ``test``.
        images: uint8 [N, height, width], or [N, channels, height, width], or streams [N, frames,
            channels, height, width]; read when indexed.
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


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one task.

    Attributes:
        images: uint8 [B, height, width] or [B, channels, height, width].
        labels: int64 [B].
        indices: int64 [B], positions in the split.
        task: The task they belong to.
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
    stored = _stored(origin, task, pool="test" if split == "test" else "train")
    if split == "test":
        indices = _evenly(len(stored.labels), params.test_images)
    else:
        limit = params.train_images if split == "train" else params.validation_images
        indices = _part(stored.labels, task, split, seed, params.validation_fraction, limit)
    if len(indices) == 0:
        raise UserError(
            f"task {task.name!r}: {len(stored.labels)} images of {origin.name} leave none for "
            f"{split} at validation_fraction={params.validation_fraction}; at least 1 is needed"
        )
    labels = stored.labels[indices]
    key = json.dumps([_FORMAT, stored.identity, sorted(task.classes)])
    fingerprint = hashlib.sha256(key.encode() + indices.tobytes()).hexdigest()[:16]
    return TaskImages(task, split, Rows(stored, indices), labels, fingerprint)


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
    reader = _Reader(images)
    if workers == 0:
        return map(reader.__getitem__, parts)
    import torch
    from torch.utils.data import DataLoader

    loader = DataLoader(
        reader,
        sampler=parts,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch,
        collate_fn=_unchanged,
        generator=torch.Generator(),  # else the loader would draw from the global one
    )
    return iter(loader)


class _Reader:
    """Index array -> Batch; what a loader process needs, and no more."""

    def __init__(self, images: TaskImages) -> None:
        self._images = images

    def __getitem__(self, indices: np.ndarray) -> Batch:
        split = self._images
        return Batch(split.images[indices], split.labels[indices], indices, split.task)


def _unchanged(batch: Batch) -> Batch:
    return batch


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


def _evenly(count: int, limit: int) -> np.ndarray:
    """``limit`` evenly spaced rows of ``count`` (0 = all); int64, ascending."""
    chosen = min(limit, count) if limit else count
    return np.arange(chosen) * count // max(chosen, 1)


# The HDF5 file of one pool of one task.


class _DamagedError(Exception):
    """A task file that is not what it should be."""


class _Stored(NamedTuple):
    """A checked task file: where its images lie, their shape, and its labels (int64 [N]).

    ``starts``: of the events of each stream, int64 [N + 1]; None: still images.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    labels: np.ndarray
    identity: str
    starts: np.ndarray | None = None

    def map(self) -> np.ndarray:
        """Its images, uint8, or its events, uint32, mapped read-only.

        For scattered rows this is far faster than h5py, and possible because the images are stored
        in one uncompressed piece.
        """
        if self.starts is None:
            return np.asarray(np.memmap(self.path, np.uint8, "r", self.offset, self.shape))
        size = int(self.starts[-1])
        if not size:
            return np.zeros(0, np.uint32)
        return np.asarray(np.memmap(self.path, np.uint32, "r", self.offset, (size,)))


def _stored(origin: Source, task: TaskSpec, pool: str) -> _Stored:
    """The task file of a pool, checked; built when it is missing or damaged."""
    identity = origin.identity(pool)
    classes = sorted(task.classes)
    key = hashlib.sha256(json.dumps([_FORMAT, identity, classes]).encode()).hexdigest()[:12]
    kind = origin.name.partition(":")[0]
    label = "_".join(map(str, classes))[:40]
    path = paths.data() / "tasks" / f"{kind}-{label}-{key}-{pool}.h5"
    try:
        return _inspect(path, identity)
    except (FileNotFoundError, _DamagedError):
        with files.lock(path.with_suffix(".lock")):
            try:
                return _inspect(path, identity)  # another process may have built it meanwhile
            except FileNotFoundError:
                pass
            except _DamagedError as damage:
                warnings.warn(f"{path} is damaged ({damage}); building it again", stacklevel=3)
            _build(path, origin, identity, task, pool)
            return _inspect(path, identity)


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
        with h5py.File(temporary, "w", locking=False, userblock_size=checksum.BYTES) as file:
            if isinstance(images, Streams):
                rows = np.flatnonzero(chosen)
                starts = np.cumsum([0, *np.diff(images.starts)[rows]])
                file["starts"], file.attrs["shape"] = starts, images.shape
                events = file.create_dataset("events", (starts[-1],), np.uint32)
                for row, begin, end in zip(rows, starts[:-1], starts[1:], strict=True):
                    if begin < end:
                        events[begin:end] = images.events[slice(*images.starts[row : row + 2])]
            else:
                file["images"] = images[chosen]
            file["labels"] = labels[chosen]
            file.attrs["source"] = origin.name
            file.attrs["source_sha256"] = identity
            file.attrs["pool"] = pool
            # The task that it was built for; others of the same classes share the file.
            file.attrs["task_name"] = task.name
            file.attrs["task_classes"] = sorted(task.classes)
            file.attrs["task_frame_rate_hz"] = task.frame_rate_hz
            file.attrs["task_duration_ms"] = task.duration_ms
        checksum.write(temporary)


def _inspect(path: Path, identity: str) -> _Stored:
    """Open and check a task file.

    Raises:
        FileNotFoundError: There is none.
        _DamagedError: Truncated, altered, or of another content.
    """
    import h5py

    if not checksum.intact(path):
        raise _DamagedError("its bytes do not fit its checksum")
    # Finished files never change, so HDF5's own locks (which some network disks lack) are idle.
    with h5py.File(path, "r", locking=False) as file:
        if file.attrs["source_sha256"] != identity:
            raise _DamagedError("it holds images of another source")
        labels = file["labels"][...].astype(np.int64)
        if "events" in file:
            events, starts = file["events"], file["starts"][...]
            shape = (len(labels), *map(int, file.attrs["shape"]))
            offset = events.id.get_offset() or 0
            return _Stored(path, offset, shape, labels, identity, starts)
        images = file["images"]
        return _Stored(path, images.id.get_offset(), images.shape, labels, identity)
