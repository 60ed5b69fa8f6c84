"""``nmnist:FOLDER``: Neuromorphic-MNIST as published: MNIST before an event camera that moves.

The folder holds ``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin``, unpacked; a file is a sample,
its events 40 bits each: x (8), y (8), polarity (1; 1 is brighter), time in us (23), big-endian. A y
of 240 is no event but says that all later times are 2^13 us more. Channel 0 gets darker, 1
brighter. Files are read one by one.

Source: Orchard, Jayawant, Cohen & Thakor 2015, "Converting static image datasets to spiking
neuromorphic datasets using saccades".
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from ltgate.data.recordings import Recording
from ltgate.data.sources import SOURCES, digest, folder
from ltgate.data.streams import Streams, spool, within
from ltgate.data.tasks import MOST_FRAMES
from ltgate.declare import Group, Positive
from ltgate.errors import UserError

SIDE = 34
FOLDERS = {"train": "Train", "test": "Test"}
EVENT_BYTES = 5
OVERFLOW_Y, OVERFLOW_US = 240, 1 << 13


class NmnistParameters(Group, since="0.2"):
    """Recordings of source nmnist:FOLDER."""

    nmnist_bin_ms: Positive = 5.0
    """length of a frame in the recording (ms)"""
    nmnist_frames: Annotated[int, Field(ge=1, le=MOST_FRAMES)] = 64
    """frames of a sample"""


@dataclass(frozen=True)
class Nmnist(Recording):
    """See the module."""

    kind = "nmnist"
    plane = (2, SIDE, SIDE)
    parameters = NmnistParameters

    def identity(self, pool: str) -> str:
        """See `Source.identity`: of the files' names, sizes and times, for there are 70,000."""
        inside = self.folder / FOLDERS[pool]
        times = tuple((x.name, x.stat().st_mtime_ns) for x in sorted(inside.glob("[0-9]")))
        return digest(self.values.encode(), _listed(self, pool, times).encode())

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        """See `Source.read`."""
        paths = self.files(pool)
        labels = np.array([int(path.parent.name) for path in paths], np.uint8)
        return spool(map(self._sample, paths), self.stream_shape), labels

    def files(self, pool: str) -> list[Path]:
        """A pool's files, in order of digit and name."""
        inside = self.folder / FOLDERS[pool]
        if found := sorted(inside.glob("[0-9]/*.bin")):
            return found
        raise UserError(f"{inside}: holds no files <digit>/*.bin")

    def _sample(self, path: Path) -> np.ndarray:
        """The places of a file's events."""
        data = np.fromfile(path, np.uint8)
        if not len(data) or len(data) % EVENT_BYTES:
            raise UserError(
                f"{path}: is truncated: {len(data)} bytes; allowed are whole events of "
                f"{EVENT_BYTES} bytes, at least one"
            )
        x, y, high, middle, low = data.reshape(-1, EVENT_BYTES).T.astype(np.int64)
        overflow = y == OVERFLOW_Y
        microseconds = (high & 127) << 16 | middle << 8 | low
        microseconds += OVERFLOW_US * np.cumsum(overflow)
        x, y, polarity, microseconds = (part[~overflow] for part in (x, y, high >> 7, microseconds))
        try:
            within(x, "x", f"0 to {SIDE - 1}", SIDE)
            within(y, "y", f"0 to {SIDE - 1}", SIDE)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        return self.places(str(path), microseconds / 1000, (polarity * SIDE + y) * SIDE + x)


@functools.lru_cache
def _listed(source: Nmnist, pool: str, times: tuple) -> str:
    """SHA-256 of what lies in the folders, listed once while they have these ``times``."""
    about = [(path.parent.name, path.name, path.stat()) for path in source.files(pool)]
    seen = [(digit, name, now.st_size, now.st_mtime_ns) for digit, name, now in about]
    return digest(str(seen).encode())


SOURCES["nmnist:"] = lambda text: Nmnist(folder(text))
