"""``delayed``: a cue, a silence, a probe; the label is 0 where both are the same.

Cue and probe are bursts of one of two halves of the channels, each channel with probability
``delayed_burst``, on ``delayed_width`` frames; between them lie ``delayed_shortest`` to
``delayed_longest`` frames. Neither burst alone tells the label: a neuron has to bridge the silence.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from ltgate.data import manifolds
from ltgate.data.sources import SOURCES, Drawn
from ltgate.data.streams import Streams
from ltgate.declare import Count, Group, Share, Whole


class DelayedParameters(Group, since="0.2"):
    """Streams of source delayed."""

    delayed_channels: Annotated[int, Field(ge=2)] = 40
    """input channels"""
    delayed_width: Count = 5
    """frames of cue and probe"""
    delayed_shortest: Whole = 50
    """frames of the shortest silence"""
    delayed_longest: Whole = 400
    """frames of the longest silence"""
    delayed_burst: Share = 0.3
    """probability of an event per frame and channel of the half that bursts"""
    delayed_noise: Annotated[float, Field(ge=0, le=1)] = 0.001
    """probability of a background event per frame and channel"""
    delayed_samples: Count = 500
    """samples per class for training and validation"""
    delayed_test_samples: Count = 250
    """samples per class for testing"""

    @model_validator(mode="after")
    def _silence_ordered(self) -> Self:
        if self.delayed_shortest > self.delayed_longest:
            raise ValueError(
                f"delayed_shortest = {self.delayed_shortest}: must be at most delayed_longest = "
                f"{self.delayed_longest}"
            )
        return self


@SOURCES.add("delayed")
@dataclass(frozen=True)
class Delayed(Drawn):
    """See the module."""

    name: str = "delayed"
    parameters = DelayedParameters

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, 1, 1); as long as the longest silence, two bursts and a tail."""
        return 4 * self["width"] + self["longest"], self["channels"], 1, 1

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        """See `Source.read`."""
        length, channels = self.stream_shape[:2]
        width, generator = self["width"], self.generator(pool)
        number = 2 * self["samples" if pool == "train" else "test_samples"]
        labels = np.repeat(np.arange(2), number // 2)
        cue = generator.integers(0, 2, number)
        silence = generator.integers(self["shortest"], self["longest"] + 1, number)
        frames = manifolds.noise((number, length, channels), self["noise"], generator)
        half = np.arange(channels) * 2 // channels
        for starts, side in ((np.zeros(number, int), cue), (width + silence, cue ^ labels)):
            burst = generator.random((number, width, channels)) < self["burst"]
            burst &= (half == side[:, None])[:, None]
            for sample, start in enumerate(starts):
                frames[sample, start : start + width] |= burst[sample]
        return manifolds.shuffled(self.in_order(frames, generator), labels, generator)
