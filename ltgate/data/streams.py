"""Streams of events: samples of ``frames`` frames, each a plane [channels, height, width] of 0/1.

They are kept as lists of events, in memory and on disk: an event is its place in the flattened
sample [frames, channels, height, width], a uint32. Frames are made when a sample is read.

``events:FOLDER`` is a folder with ``train.h5`` and ``test.h5`` as :func:`save` writes them:

=========  ==================================================================================
events     uint32 [total], all samples one after the other, each with rising, different places
starts     int64 [N + 1], where each sample's events begin, and the end
labels     uint8 [N]
shape      attribute: frames, channels, height, width
=========  ==================================================================================
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ltgate import files, paths
from ltgate.data.idx import LARGEST_RATIO
from ltgate.data.sources import SOURCES, Folder, find
from ltgate.errors import UserError, one_line

if TYPE_CHECKING:
    import h5py

LONGEST = 2**32  # places in a sample
PATIENCE = 600  # seconds for reading one sample, or a whole file of events
BOUNDARY = 1e-9  # an event this close to the next frame, in frames, is in it (rounding)


class Streams(NamedTuple):
    """Many samples.

    Attributes:
        events: uint32 [total], places in the flattened samples.
        starts: int64 [N + 1].
        shape: (frames, channels, height, width).
    """

    events: np.ndarray
    starts: np.ndarray
    shape: tuple[int, int, int, int]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, rows: np.ndarray) -> "Streams":
        """Some of the samples."""
        parts = [self.events[self.starts[row] : self.starts[row + 1]] for row in rows]
        return join(parts, self.shape)

    def dense(self) -> np.ndarray:
        """uint8 [N, frames, channels, height, width]."""
        shown = np.zeros((len(self), prod(self.shape)), np.uint8)
        shown[np.repeat(np.arange(len(self)), np.diff(self.starts)), self.events] = 1
        return shown.reshape(len(self), *self.shape)


def join(samples: Sequence[np.ndarray], shape: tuple[int, int, int, int]) -> Streams:
    """Streams of lists of places, one per sample."""
    starts = np.cumsum([0, *map(len, samples)])
    events = np.concatenate([np.zeros(0, np.uint32), *samples])
    return Streams(events.astype(np.uint32), starts, tuple(map(int, shape)))


def spool(samples: Iterable[np.ndarray], shape: tuple[int, int, int, int]) -> Streams:
    """:func:`join` of samples that need not fit into memory: events lie in an unnamed file."""
    starts = [0]
    paths.data().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=paths.data()) as file:
        for sample in samples:
            file.write(sample.astype(np.uint32).tobytes())
            starts.append(starts[-1] + len(sample))
        file.flush()
        events = np.memmap(file, np.uint32, "r") if starts[-1] else np.zeros(0, np.uint32)
    return Streams(events, np.array(starts), shape)


def from_frames(frames: np.ndarray) -> Streams:
    """Streams of uint8 [N, frames, channels, height, width]; what is not 0 is an event."""
    if frames.ndim != 5:
        raise UserError(f"frames: {list(frames.shape)}; needed is [N, frames, channels, y, x]")
    flat = frames.reshape(len(frames), -1)
    return join([np.flatnonzero(sample) for sample in flat], frames.shape[1:])


def from_times(
    times_ms: np.ndarray, channels: np.ndarray, number: int, frames: int, frame_ms: float = 1.0
) -> np.ndarray:
    """Places of one sample's events [n] at ``times_ms`` from units ``channels`` below ``number``.

    Events that fall into one frame of one unit become one. An event at or after the last frame's
    end is left out.

    Raises:
        UserError: A time is no finite number or negative, a unit is out of range, or there are not
            as many of either.
    """
    times_ms, channels = np.asarray(times_ms, float), np.asarray(channels)
    if times_ms.shape != channels.shape or times_ms.ndim != 1:
        raise UserError(f"times {list(times_ms.shape)}, units {list(channels.shape)}; both are [n]")
    if channels.dtype.kind not in "iu":
        raise UserError(f"units of type {channels.dtype}; allowed are whole numbers")
    within(times_ms, "time", "finite numbers of ms from 0 on")
    within(channels, "unit", f"0 to {number - 1}", number)
    frame = np.floor(times_ms / frame_ms + BOUNDARY)
    inside = frame < frames
    return np.unique(frame[inside].astype(np.int64) * number + channels[inside].astype(np.int64))


def within(values: np.ndarray, what: str, allowed: str, end: float = np.inf) -> None:
    """Refuse an event with a value that is not at least 0 and below ``end``, or no number."""
    wrong = values[~((values >= 0) & (values < end))]
    if len(wrong):
        raise UserError(f"an event's {what} is {wrong[0]}; allowed are {allowed}")


def save(path: str | Path, streams: Streams, labels: np.ndarray) -> Path:
    """Write one pool of ``events:FOLDER``: ``FOLDER/train.h5`` or ``FOLDER/test.h5``.

    Raises:
        UserError: What reading would refuse.
    """
    import h5py

    path, labels = Path(path), np.asarray(labels)
    check(path, streams, labels)
    with files.atomic(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
        file["events"], file["starts"], file["labels"] = *streams[:2], labels.astype(np.uint8)
        file.attrs["shape"] = streams.shape
    return path


def apart[Item](
    path: Path, function: Callable[[Path], Iterator[Item]], seconds: int = PATIENCE
) -> Iterator[Item]:
    """What ``function(path)`` yields, in a process of its own: HDF5 may crash or hang on a file.

    `UserError` where it does, or takes so many ``seconds`` for one item; the function is one that
    pickle can send.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, **pipes) as child:
        try:
            child.stdin.write(pickle.dumps((function, path, seconds)))
            child.stdin.close()
            while (item := pickle.load(child.stdout)) is not None:
                if isinstance(item, UserError):
                    raise item
                yield item
        except (EOFError, OSError, pickle.UnpicklingError):
            raise UserError(f"{path}: is no sound HDF5 file: reading it crashes or hangs") from None
        finally:
            child.kill()


def _serve() -> None:
    """Write what a function yields to standard output, then None; an item has its time."""
    function, path, seconds = pickle.load(sys.stdin.buffer)
    try:
        signal.alarm(seconds)
        for item in function(path):
            pickle.dump(item, sys.stdout.buffer)
            sys.stdout.flush()
            signal.alarm(seconds)
        pickle.dump(None, sys.stdout.buffer)
    except UserError as error:
        pickle.dump(error, sys.stdout.buffer)


@contextmanager
def opened(path: Path) -> Iterator["h5py.File"]:
    """An HDF5 file to read, and one clear line for all that reading it meets."""
    import h5py

    try:
        with h5py.File(find(path), "r", locking=False) as file:
            yield file
    except UserError:
        raise
    except (KeyError, OSError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise UserError(f"{path}: is no sound HDF5 file of events ({one_line(error)})") from None


def stored(file: "h5py.File", name: str) -> "h5py.Dataset":
    """A dataset of this file itself, no larger than what the file can hold."""
    import h5py

    for part in accumulate(name.split("/"), "{}/{}".format):
        if not isinstance(file.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link, or is missing")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise ValueError(f"{name} is no dataset of this file")
    most = LARGEST_RATIO * Path(file.filename).stat().st_size
    if max(found.nbytes, prod(found.chunks or ()) * found.dtype.itemsize) > most:
        raise ValueError(f"{name} of shape {found.shape} is more than the file can hold")
    return found


def check(path: Path, streams: Streams, labels: np.ndarray) -> None:
    """Refuse streams or labels that are none, or do not fit each other."""
    events, starts, shape = streams
    size = prod(shape)
    sound = (
        len(shape) == 4
        and min(shape) > 0
        and size < LONGEST
        and starts.ndim == events.ndim == labels.ndim == 1
        and starts.dtype.kind in "iu"
        and events.dtype.kind in "iu"
        and len(starts) == len(labels) + 1
        and (starts[0], starts[-1]) == (0, len(events))
        and (starts[:-1] <= starts[1:]).all()
    )
    if not sound:
        raise UserError(
            f"{path}: events {list(events.shape)}, starts {list(starts.shape)}, labels "
            f"{list(labels.shape)}, shape {list(shape)} do not fit each other"
        )
    for place in (events.min(), events.max()) if len(events) else ():
        if not 0 <= place < size:
            raise UserError(f"{path}: an event at {place}; allowed are 0 to {size - 1}")
    check_labels(path, labels)


def check_labels(path: Path, labels: np.ndarray) -> None:
    """Refuse labels that are not whole numbers from 0 to 255, one a sample."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or ((labels < 0) | (labels > 255)).any():
        raise UserError(f"{path}: labels must be whole numbers from 0 to 255, [N]")


@files.once_a_version
def _shape(path: Path) -> tuple[int, ...]:
    return next(apart(path, _shapes))


def _shapes(path: Path) -> Iterator[tuple[int, ...]]:
    with opened(path) as file:
        yield _shape_in(file)


def _events(path: Path) -> Iterator[tuple[Streams, np.ndarray]]:
    with opened(path) as file:
        events, starts, labels = (stored(file, x)[...] for x in ("events", "starts", "labels"))
        streams = Streams(events, starts, _shape_in(file))
    check(path, streams, labels)
    yield streams, labels.astype(np.uint8)


def _shape_in(file: "h5py.File") -> tuple[int, ...]:
    one = file.attrs.get_id("shape").shape == (4,)
    shape = tuple(map(int, file.attrs["shape"])) if one else ()
    if not shape or min(shape) < 1 or prod(shape) >= LONGEST:
        raise ValueError("attribute shape is no (frames, channels, height, width)")
    return shape


@SOURCES.add("events:")
@dataclass(frozen=True)
class EventFolder(Folder):
    """Streams in files of the project's own format."""

    kind = "events"
    test_files = ("test.h5",)

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, height, width)."""
        return _shape(*self.files("train"))

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        return next(apart(*self.files(pool), _events))

    def files(self, pool: str) -> list[Path]:
        return [find(self.folder / f"{pool}.h5")]
