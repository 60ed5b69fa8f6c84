"""``warp``: patterns of timing alone in background noise, to be played at several speeds.

Every channel fires once in a class-specific order (:mod:`ltgate.data.manifolds`) within
``warp_pattern`` of ``warp_frames`` frames, from a random frame on; ``warp_noise`` further events
per channel and pattern length fall anywhere. Counts of the channels tell nothing of the class.
Tasks play the same frames at other rates.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from ltgate.data import manifolds
from ltgate.data.sources import SOURCES, Drawn
from ltgate.data.streams import Streams
from ltgate.declare import Count, Group, Positive


class WarpParameters(Group, since="0.2"):
    """Streams of source warp."""

    warp_classes: Annotated[int, Field(ge=2, le=256)] = 5
    """number of classes"""
    warp_channels: Count = 40
    """input channels"""
    warp_frames: Count = 160
    """frames of a sample"""
    warp_pattern: Count = 40
    """frames of a pattern"""
    warp_noise: Annotated[float, Field(ge=0)] = 0.2
    """background events per channel in the time of a pattern"""
    warp_smoothness: Positive = 1.5
    """exponent by which the classes' curves are smooth"""
    warp_samples: Count = 400
    """samples per class for training and validation"""
    warp_test_samples: Count = 200
    """samples per class for testing"""

    @model_validator(mode="after")
    def _pattern_fits(self) -> Self:
        if self.warp_pattern > self.warp_frames:
            raise ValueError(
                f"warp_pattern = {self.warp_pattern}: must be at most warp_frames = "
                f"{self.warp_frames}"
            )
        return self


@SOURCES.add("warp")
@dataclass(frozen=True)
class Warp(Drawn):
    """See the module; one draw of classes and samples per seed."""

    name: str = "warp"
    parameters = WarpParameters

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, 1, 1)."""
        return self["frames"], self["channels"], 1, 1

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        """See `Source.read`."""
        classes, channels, length = (self[x] for x in ("classes", "channels", "pattern"))
        curves = manifolds.curves(classes, channels, self["smoothness"], self.generator("classes"))
        generator = self.generator(pool)
        number = self["samples" if pool == "train" else "test_samples"]
        times = curves(generator.uniform(size=(classes, number))).reshape(-1, channels)
        shape = (len(times), self["frames"], channels)
        frames = manifolds.noise(shape, self["noise"] / length, generator)
        starts = generator.integers(0, self["frames"] - length + 1, len(times))
        manifolds.place(frames, times, length, starts)
        labels = np.repeat(np.arange(classes), number)
        return manifolds.shuffled(self.in_order(frames, generator), labels, generator)
