"""Recordings of events in the files in which others publish them, brought to frames.

Events of one unit in one frame become one, later ones are left out. A task's ``frame_rate_hz``
plays the frames at the recorded speed when it is 1000 / ``bin_ms``, faster or slower when it is
another. Samples are read one by one.

``shd:FOLDER``: Spiking Heidelberg Digits or Spiking Speech Commands. The folder holds
``shd_train.h5`` and ``shd_test.h5``, or ``ssc_train.h5``, ``ssc_valid.h5`` (which joins the pool of
training and validation, if it is there) and ``ssc_test.h5``, unpacked. In each:

============  ===============================================================================
spikes/times  N lists of times in s (float16)
spikes/units  N lists of units, 0 to 699
labels        N classes: SHD 0 to 19, SSC 0 to 34
============  ===============================================================================

Source: Cramer, Stradmann, Schemmel & Zenke 2022, "The Heidelberg spiking data sets for the
systematic evaluation of spiking neural networks".

``nmnist:FOLDER``: Neuromorphic-MNIST: MNIST before an event camera that moves. The folder holds
``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin``, unpacked; a file is a sample, its events 40 bits
each: x (8), y (8), polarity (1; 1 is brighter), time in us (23), big-endian. A y of 240 is no event
but says that all later times are 2^13 us more. Channel 0 gets darker, 1 brighter.

Source: Orchard, Jayawant, Cohen & Thakor 2015, "Converting static image datasets to spiking
neuromorphic datasets using saccades".
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from ltgate.data import streams
from ltgate.data.sources import SOURCES, Declared, Folder
from ltgate.data.streams import Streams, from_times, spool, within
from ltgate.data.tasks import MOST_FRAMES
from ltgate.declare import Group, Positive
from ltgate.errors import UserError, telling


@dataclass(frozen=True)
class Recording(Declared, Folder):
    """A folder of recordings; parameters ``<kind>_bin_ms`` and ``<kind>_frames``.

    Attributes:
        plane: (channels, height, width) of a frame.
    """

    plane: ClassVar[tuple[int, int, int]]

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, height, width)."""
        return getattr(self.values, f"{self.kind}_frames"), *self.plane

    def places(self, times_ms: np.ndarray, units: np.ndarray) -> np.ndarray:
        """The places of one sample's events: their times [n], and their places in a frame [n]."""
        bin_ms = getattr(self.values, f"{self.kind}_bin_ms")
        return from_times(times_ms, units, prod(self.plane), self.stream_shape[0], bin_ms)


SHD_UNITS = 700
SHD_PARTS = {"train": ("train", "valid"), "test": ("test",)}  # pool -> ends of its files' names


class ShdParameters(Group, since="0.2"):
    """Recordings of source shd:FOLDER."""

    shd_bin_ms: Positive = 10.0
    """length of a frame in the recording (ms)"""
    shd_frames: Annotated[int, Field(ge=1, le=MOST_FRAMES)] = 140
    """frames of a sample"""


@SOURCES.add("shd:")
@dataclass(frozen=True)
class Shd(Recording):
    """See the module."""

    values: ShdParameters = field(default_factory=ShdParameters)
    kind = "shd"
    test_files = ("shd_test.h5", "ssc_test.h5")
    plane = (SHD_UNITS, 1, 1)

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        labels: list[int] = []

        def places() -> Iterator[np.ndarray]:
            for path in self.files(pool):
                for label, sample in streams.apart(path, self._samples):
                    labels.append(label)
                    yield sample

        return spool(places(), self.stream_shape), np.array(labels, np.uint8)

    def files(self, pool: str) -> list[Path]:
        first = SHD_PARTS[pool][0]
        kinds = [x for x in ("shd", "ssc") if (self.folder / f"{x}_{first}.h5").is_file()]
        if len(kinds) != 1:
            raise UserError(
                f"source={self.name!r}: the folder holds {' and '.join(kinds) or 'neither'} of "
                f"shd_{first}.h5 and ssc_{first}.h5; needed is one of them, unpacked"
            )
        paths = [self.folder / f"{kinds[0]}_{part}.h5" for part in SHD_PARTS[pool]]
        return [path for path in paths if path.is_file() or "valid" not in path.stem]

    def _samples(self, path: Path) -> Iterator[tuple[int, np.ndarray]]:
        """Each sample's label and places."""
        with streams.opened(path) as file:
            names = ("spikes/times", "spikes/units", "labels")
            times, units, labels = (streams.stored(file, name) for name in names)
            streams.check_labels(path, labels := labels[...])
            if not len(times) == len(units) == len(labels):
                raise UserError(
                    f"{path}: spikes/times of {len(times)} samples, spikes/units of "
                    f"{len(units)}, labels of {len(labels)}; needed are as many of each"
                )
            for row, label in enumerate(labels.tolist()):
                seconds = np.asarray(times[row])
                milliseconds = seconds.astype(np.result_type(seconds, np.float32)) * 1000
                with telling(f"{path}, sample {row}"):
                    places = self.places(milliseconds, units[row])
                yield label, places


SIDE = 34
NMNIST_FOLDERS = {"train": "Train", "test": "Test"}
EVENT_BYTES = 5
OVERFLOW_Y, OVERFLOW_US = 240, 1 << 13


class NmnistParameters(Group, since="0.2"):
    """Recordings of source nmnist:FOLDER."""

    nmnist_bin_ms: Positive = 5.0
    """length of a frame in the recording (ms)"""
    nmnist_frames: Annotated[int, Field(ge=1, le=MOST_FRAMES)] = 64
    """frames of a sample"""


@SOURCES.add("nmnist:")
@dataclass(frozen=True)
class Nmnist(Recording):
    """See the module."""

    values: NmnistParameters = field(default_factory=NmnistParameters)
    kind = "nmnist"
    test_files = ("Test/[0-9]/*.bin",)
    plane = (2, SIDE, SIDE)

    def identity(self, pool: str) -> str:
        """See `Source.identity`; a folder without files is refused."""
        self.files(pool)
        return super().identity(pool)

    def inputs(self, pool: str) -> list[Path]:
        """Their list stands for the files, for there are 70,000."""
        return [self.folder / NMNIST_FOLDERS[pool]]

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        paths = self.files(pool)
        labels = np.array([int(path.parent.name) for path in paths], np.uint8)
        return spool(map(self._sample, paths), self.stream_shape), labels

    def files(self, pool: str) -> list[Path]:
        """A pool's files, in order of digit and name."""
        (inside,) = self.inputs(pool)
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
        with telling(str(path)):
            within(x, "x", f"0 to {SIDE - 1}", SIDE)
            within(y, "y", f"0 to {SIDE - 1}", SIDE)
            return self.places(microseconds / 1000, (polarity * SIDE + y) * SIDE + x)
