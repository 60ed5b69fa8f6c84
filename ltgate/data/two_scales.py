"""``two_scales``: a fast pattern and a slow one in one sample, each on channels of its own.

The first half of the channels carries a pattern of ``scales_fast`` frames ``scales_repeats`` times,
the second half one of ``scales_slow`` frames once, both among background events. The label is the
pair: fast class * ``scales_classes`` + slow class.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from ltgate.data import manifolds
from ltgate.data.sources import SOURCES, Drawn
from ltgate.data.streams import Streams
from ltgate.declare import Count, Group, Positive

NotNegative = Annotated[float, Field(ge=0)]


class ScalesParameters(Group, since="0.2"):
    """Streams of source two_scales."""

    scales_classes: Annotated[int, Field(ge=2, le=16)] = 3
    """classes of either pattern"""
    scales_channels: Count = 40
    """channels of either half"""
    scales_frames: Count = 600
    """frames of a sample"""
    scales_fast: Count = 20
    """frames of the fast pattern"""
    scales_slow: Count = 400
    """frames of the slow pattern"""
    scales_repeats: Count = 5
    """times that the fast pattern is shown"""
    scales_noise_fast: NotNegative = 0.15
    """background events per fast channel in the time of its pattern"""
    scales_noise_slow: NotNegative = 0.15
    """background events per slow channel in the time of its pattern"""
    scales_smoothness: Positive = 1.5
    """exponent by which the classes' curves are smooth"""
    scales_samples: Count = 120
    """samples per pair of classes for training and validation"""
    scales_test_samples: Count = 60
    """samples per pair of classes for testing"""

    @model_validator(mode="after")
    def _patterns_fit(self) -> Self:
        if max(self.scales_fast, self.scales_slow) > self.scales_frames:
            raise ValueError(
                f"scales_frames = {self.scales_frames}: must be at least scales_fast and "
                "scales_slow"
            )
        return self


@SOURCES.add("two_scales")
@dataclass(frozen=True)
class TwoScales(Drawn):
    """See the module; one draw of classes and samples per seed."""

    name: str = "two_scales"
    parameters = ScalesParameters

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, 1, 1), the fast half of the channels first."""
        return self["frames"], 2 * self["channels"], 1, 1

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        """See `Source.read`."""
        classes, channels, length = (self[x] for x in ("classes", "channels", "frames"))
        rule = classes, channels, self["smoothness"]
        quick, calm = (manifolds.curves(*rule, self.generator(x)) for x in ("fast", "slow"))
        generator = self.generator(pool)
        number = self["samples" if pool == "train" else "test_samples"]
        labels = np.repeat(np.arange(classes**2), number)
        shape = (len(labels), length, channels)
        halves = []
        for curve, own, frames, repeats, rate in (
            (quick, labels // classes, self["fast"], self["repeats"], self["noise_fast"]),
            (calm, labels % classes, self["slow"], 1, self["noise_slow"]),
        ):
            shown = manifolds.noise(shape, rate / frames, generator)
            for _ in range(repeats):
                times = curve(generator.uniform(size=(classes, len(labels))))
                times = times[own, np.arange(len(labels))]
                starts = generator.integers(0, length - frames + 1, len(labels))
                manifolds.place(shown, times, frames, starts)
            halves.append(shown)
        shown = self.in_order(np.concatenate(halves, axis=2), generator)
        return manifolds.shuffled(shown, labels, generator)
