"""``shd:FOLDER``: Spiking Heidelberg Digits or Spiking Speech Commands, as published.

The folder holds ``shd_train.h5`` and ``shd_test.h5``, or ``ssc_train.h5``, ``ssc_valid.h5`` (which
joins the pool of training and validation, if it is there) and ``ssc_test.h5``, unpacked. In each:

============  ===============================================================================
spikes/times  N lists of times in s (float16)
spikes/units  N lists of units, 0 to 699
labels        N classes: SHD 0 to 19, SSC 0 to 34
============  ===============================================================================

Samples are read one by one. Source: Cramer, Stradmann, Schemmel & Zenke 2022, "The Heidelberg
spiking data sets for the systematic evaluation of spiking neural networks".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from ltgate.data.recordings import Recording
from ltgate.data.sources import SOURCES, digest, file_sha256, folder
from ltgate.data.streams import Streams, check_labels, opened, spool
from ltgate.data.tasks import MOST_FRAMES
from ltgate.declare import Group, Positive
from ltgate.errors import UserError

UNITS = 700
PARTS = {"train": ("train", "valid"), "test": ("test",)}  # pool -> ends of its files' names
MAY_LACK = "valid"


class ShdParameters(Group, since="0.2"):
    """Recordings of source shd:FOLDER."""

    shd_bin_ms: Positive = 10.0
    """length of a frame in the recording (ms)"""
    shd_frames: Annotated[int, Field(ge=1, le=MOST_FRAMES)] = 140
    """frames of a sample"""


@dataclass(frozen=True)
class Shd(Recording):
    """See the module."""

    kind = "shd"
    plane = (UNITS, 1, 1)
    parameters = ShdParameters

    def identity(self, pool: str) -> str:
        """See `Source.identity`."""
        return digest(self.values.encode(), *(file_sha256(x).encode() for x in self.files(pool)))

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        """See `Source.read`."""
        labels: list[int] = []
        streams = spool(self._samples(pool, labels), self.stream_shape)
        return streams, np.array(labels, np.uint8)

    def files(self, pool: str) -> list[Path]:
        """A pool's files."""
        first = PARTS[pool][0]
        kinds = [x for x in ("shd", "ssc") if (self.folder / f"{x}_{first}.h5").is_file()]
        if len(kinds) != 1:
            raise UserError(
                f"source={self.name!r}: the folder holds {' and '.join(kinds) or 'neither'} of "
                f"shd_{first}.h5 and ssc_{first}.h5; needed is one of them, unpacked"
            )
        paths = [self.folder / f"{kinds[0]}_{part}.h5" for part in PARTS[pool]]
        return [path for path in paths if path.is_file() or MAY_LACK not in path.stem]

    def _samples(self, pool: str, labels: list[int]) -> Iterator[np.ndarray]:
        """Each sample's places; its label is added to ``labels``."""
        for path in self.files(pool):
            with opened(path) as file:
                missing = [x for x in ("spikes/times", "spikes/units", "labels") if x not in file]
                if missing:
                    raise UserError(f"{path}: has no dataset {missing[0]}")
                times, units, own = file["spikes/times"], file["spikes/units"], file["labels"][...]
                check_labels(path, own)
                if not len(times) == len(units) == len(own):
                    raise UserError(
                        f"{path}: spikes/times of {len(times)} samples, spikes/units of "
                        f"{len(units)}, labels of {len(own)}; needed are as many of each"
                    )
                labels += own.tolist()
                for row in range(len(own)):
                    seconds = np.asarray(times[row])
                    milliseconds = seconds.astype(np.result_type(seconds, np.float32)) * 1000
                    yield self.places(f"{path}, sample {row}", milliseconds, units[row])


SOURCES["shd:"] = lambda text: Shd(folder(text))
