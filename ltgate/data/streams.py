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

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltgate import files
from ltgate.data.sources import SOURCES, digest, file_sha256, folder
from ltgate.errors import UserError

LONGEST = 2**32  # places in a sample


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
        UserError: A time is no finite number or negative, or a unit is out of range.
    """
    times_ms, channels = np.asarray(times_ms, float), np.asarray(channels)
    if not np.isfinite(times_ms).all() or (times_ms < 0).any():
        raise UserError("event times: NaN, infinity or a negative number; needed are ms from 0 on")
    if len(channels) and not (channels.min() >= 0 and channels.max() < number):
        wrong = channels[(channels < 0) | (channels >= number)][0]
        raise UserError(f"event unit {wrong}: allowed are 0 to {number - 1}")
    frame = np.floor(times_ms / frame_ms).astype(np.int64)
    inside = frame < frames
    return np.unique(frame[inside] * number + channels[inside].astype(np.int64))


def save(path: str | Path, streams: Streams, labels: np.ndarray) -> Path:
    """Write one pool of ``events:FOLDER``: ``FOLDER/train.h5`` or ``FOLDER/test.h5``.

    Raises:
        UserError: What reading would refuse.
    """
    import h5py

    path, labels = Path(path), np.asarray(labels)
    _check(path, streams, labels)
    with files.atomic(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
        file["events"], file["starts"], file["labels"] = *streams[:2], labels.astype(np.uint8)
        file.attrs["shape"] = streams.shape
    return path


def load(path: Path) -> tuple[Streams, np.ndarray]:
    """What :func:`save` wrote: streams, and labels uint8 [N]."""
    with opened(path) as file:
        try:
            shape = tuple(map(int, file.attrs["shape"]))
            streams = Streams(file["events"][...], file["starts"][...], shape)
            labels = file["labels"][...]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: is not a file of events ({error})") from None
    _check(path, streams, labels)
    return streams, labels


def opened(path: Path):
    """An HDF5 file to read, or one clear line."""
    import h5py

    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise UserError(f"{path}: is no HDF5 file ({error})") from None


def _check(path: Path, streams: Streams, labels: np.ndarray) -> None:
    events, starts, shape = streams
    size = prod(shape)
    sound = (
        len(shape) == 4
        and 0 < size < LONGEST
        and starts.ndim == events.ndim == labels.ndim == 1
        and len(starts) == len(labels) + 1
        and (starts[0], starts[-1]) == (0, len(events))
        and (np.diff(starts) >= 0).all()
    )
    if not sound:
        raise UserError(
            f"{path}: events {list(events.shape)}, starts {list(starts.shape)}, labels "
            f"{list(labels.shape)}, shape {list(shape)} do not fit each other"
        )
    if len(events) and int(events.max()) >= size:
        raise UserError(f"{path}: an event at {events.max()}; allowed are 0 to {size - 1}")
    if not np.issubdtype(labels.dtype, np.integer) or (len(labels) and labels.max() > 255):
        raise UserError(f"{path}: labels must be whole numbers from 0 to 255")


@dataclass(frozen=True)
class EventFolder:
    """Streams in files of the project's own format."""

    folder: Path

    @property
    def name(self) -> str:
        """``events:`` and the absolute folder."""
        return f"events:{self.folder}"

    def _path(self, pool: str) -> Path:
        return self.folder / f"{pool}.h5"

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """See :class:`ltgate.data.sources.Source`."""
        with opened(self._path("train")) as file:
            return tuple(map(int, file.attrs["shape"]))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See :class:`ltgate.data.sources.Source`."""
        return self.stream_shape[1:]

    def identity(self, pool: str) -> str:
        """See :class:`ltgate.data.sources.Source`."""
        return digest(file_sha256(self._path(pool)).encode())

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        """See :class:`ltgate.data.sources.Source`."""
        return load(self._path(pool))

    def files(self, pool: str) -> list[Path]:
        """A pool's files."""
        if not self._path(pool).is_file():
            raise UserError(f"{self._path(pool)} does not exist")
        return [self._path(pool)]


SOURCES["events:"] = lambda text: EventFolder(folder(text))
