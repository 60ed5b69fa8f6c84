"""Recordings of events in the files in which others publish them, brought to frames.

A source of them has a file of its own (``shd``, ``nmnist``) and declares the length of its frames
and their number; events of one unit in one frame become one, later ones are left out. A task's
``frame_rate_hz`` plays the frames at the recorded speed when it is 1000 / ``bin_ms``, faster or
slower when it is another.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np

from ltgate.data.sources import Declared
from ltgate.data.streams import from_times
from ltgate.errors import UserError


@dataclass(frozen=True)
class Recording(Declared):
    """A folder of recordings; parameters ``<kind>_bin_ms`` and ``<kind>_frames``.

    Attributes:
        folder: Where its files lie.
        values: See :class:`ltgate.data.sources.Declared`.
        kind: Its name without the folder.
        plane: (channels, height, width) of a frame.
    """

    folder: Path
    values: str = "{}"
    kind: ClassVar[str]
    plane: ClassVar[tuple[int, int, int]]

    @property
    def name(self) -> str:
        """The kind and the folder."""
        return f"{self.kind}:{self.folder}"

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, height, width)."""
        return self["frames"], *self.plane

    def places(self, where: str, times_ms: np.ndarray, units: np.ndarray) -> np.ndarray:
        """The events of one sample as places; an error says ``where`` it is.

        Args:
            where: File, and sample in it.
            times_ms: When its events are, [n].
            units: Places of the events in a frame, [n].
        """
        try:
            return from_times(times_ms, units, prod(self.plane), self["frames"], self["bin_ms"])
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def files(self, pool: str) -> list[Path]:
        """A pool's files; `UserError` where there is none."""
        raise NotImplementedError
