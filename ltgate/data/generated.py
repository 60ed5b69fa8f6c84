"""Streams drawn from a seed: ``warp``, ``two_scales`` and ``delayed``.

``warp``: patterns of timing alone in background noise, to be played at several speeds. Every
channel fires once in a class-specific order within ``warp_pattern`` of ``warp_frames`` frames, from
a random frame on; ``warp_noise`` further events per channel and pattern length fall anywhere.
Counts of the channels tell nothing of the class. Tasks play the same frames at other rates.

``two_scales``: a fast pattern and a slow one in one sample, each on channels of its own. The first
half of the channels carries a pattern of ``scales_fast`` frames ``scales_repeats`` times, the
second half one of ``scales_slow`` frames once, both among background events. The label is the pair:
fast class * ``scales_classes`` + slow class.

``delayed``: a cue, a silence, a probe; the label is 0 where both are the same. Cue and probe are
bursts of one of two halves of the channels, each channel with probability ``delayed_burst``, on
``delayed_width`` frames; between them lie ``delayed_shortest`` to ``delayed_longest`` frames.
Neither burst alone tells the label, but how often a half has burst is right in three of four
samples, without a memory.

A class of a pattern is a smooth random closed curve: a point u in [0, 1) of it gives every channel
one time. The times are functions of u alone, so a class is an order in which the channels fire, and
rates carry nothing. Source: Zenke & Vogels 2021, "The remarkable robustness of surrogate gradient
learning for instilling complex function in spiking neural networks".
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from ltgate.data.sources import SOURCES, Declared, digest
from ltgate.data.streams import Streams, from_frames
from ltgate.declare import Count, Group, NotNegative, Positive, Share, Whole

if TYPE_CHECKING:
    from ltgate.params import Params

HARMONICS = 12  # of a class's curve


class ControlParameters(Group, since="0.2"):
    """Control of streams."""

    shuffled_frames: bool = False
    """streams drawn from a seed keep each channel's number of events and lose their order"""


@dataclass(frozen=True)
class Drawn(Declared):
    """A source of streams that are drawn from parameters and a seed.

    Attributes:
        seed: Seeds the classes and the samples.
        shuffled: The control: each channel's frames come in random order.
    """

    values: Group
    seed: int = 0
    shuffled: bool = False

    def given(self, params: "Params", seed: int) -> Self:
        found = super().given(params, seed)
        return replace(found, seed=seed, shuffled=params.shuffled_frames)

    def generator(self, part: str) -> np.random.Generator:
        """The source of the random numbers of one part of the draw, by its name."""
        return np.random.default_rng([self.seed, *part.encode()])

    def identity(self, pool: str) -> str:
        return digest(f"{self!r} {pool}".encode())

    def streams(
        self, frames: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> tuple[Streams, np.ndarray]:
        """Samples [N, F, channels] in random order as streams, and their labels, uint8."""
        if self.shuffled:
            frames = generator.permuted(frames, axis=1)
        order = generator.permutation(len(labels))
        return from_frames(frames[order][..., None, None]), labels[order].astype(np.uint8)


def curves(classes: int, channels: int, smoothness: float, generator: np.random.Generator):
    """Draw the classes; returns a function of samples: u [classes, n] -> [classes, n, channels].

    f(u) = sum_k k^-smoothness a_k sin(2 pi k u + b_k), brought to [0, 1) per class and channel.
    """
    orders = np.arange(1, HARMONICS + 1)
    size = (classes, 1, channels, HARMONICS)
    amplitude = generator.standard_normal(size) * orders**-smoothness
    phase = generator.uniform(0, 2 * np.pi, size)

    def height(u: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * orders * u[:, :, None, None] + phase
        return (amplitude * np.sin(angle)).sum(3)

    grid = height(np.tile(np.linspace(0, 1, 400, endpoint=False), (classes, 1)))
    low, high = grid.min(1, keepdims=True), grid.max(1, keepdims=True)

    def times(u: np.ndarray) -> np.ndarray:
        return np.clip((height(u) - low) / (high - low), 0, 1 - 1e-9)

    return times


def place(frames: np.ndarray, times: np.ndarray, length: int, starts: np.ndarray) -> None:
    """Add patterns of ``length`` frames to ``frames`` [N, F, channels] in place.

    ``times`` [N, channels] in [0, 1), ``starts`` [N] the frame at which each begins.
    """
    sample, channel = np.indices(times.shape)
    frames[sample, starts[:, None] + (times * length).astype(int), channel] = 1


def noise(shape: tuple[int, int, int], rate: float, generator: np.random.Generator) -> np.ndarray:
    """Background events, each with probability ``rate``: uint8 [N, F, channels]."""
    return (generator.random(shape, dtype=np.float32) < rate).astype(np.uint8)


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
    warp_noise: NotNegative = 0.2
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
    """See the module."""

    values: WarpParameters = field(default_factory=WarpParameters)
    name: ClassVar[str] = "warp"

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, 1, 1)."""
        return self.values.warp_frames, self.values.warp_channels, 1, 1

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        p = self.values
        classes, channels, length = p.warp_classes, p.warp_channels, p.warp_pattern
        curve = curves(classes, channels, p.warp_smoothness, self.generator("classes"))
        generator = self.generator(pool)
        number = p.warp_samples if pool == "train" else p.warp_test_samples
        times = curve(generator.uniform(size=(classes, number))).reshape(-1, channels)
        shape = (len(times), p.warp_frames, channels)
        frames = noise(shape, p.warp_noise / length, generator)
        starts = generator.integers(0, p.warp_frames - length + 1, len(times))
        place(frames, times, length, starts)
        labels = np.repeat(np.arange(classes), number)
        return self.streams(frames, labels, generator)


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
    """See the module."""

    values: ScalesParameters = field(default_factory=ScalesParameters)
    name: ClassVar[str] = "two_scales"

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, 1, 1), the fast half of the channels first."""
        return self.values.scales_frames, 2 * self.values.scales_channels, 1, 1

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        p = self.values
        classes, channels, length = p.scales_classes, p.scales_channels, p.scales_frames
        rule = classes, channels, p.scales_smoothness
        quick, calm = (curves(*rule, self.generator(x)) for x in ("fast", "slow"))
        generator = self.generator(pool)
        number = p.scales_samples if pool == "train" else p.scales_test_samples
        labels = np.repeat(np.arange(classes**2), number)
        shape = (len(labels), length, channels)
        halves = []
        for curve, own, frames, repeats, rate in (
            (quick, labels // classes, p.scales_fast, p.scales_repeats, p.scales_noise_fast),
            (calm, labels % classes, p.scales_slow, 1, p.scales_noise_slow),
        ):
            shown = noise(shape, rate / frames, generator)
            for _ in range(repeats):
                times = curve(generator.uniform(size=(classes, len(labels))))
                times = times[own, np.arange(len(labels))]
                starts = generator.integers(0, length - frames + 1, len(labels))
                place(shown, times, frames, starts)
            halves.append(shown)
        return self.streams(np.concatenate(halves, axis=2), labels, generator)


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

    values: DelayedParameters = field(default_factory=DelayedParameters)
    name: ClassVar[str] = "delayed"

    @property
    def stream_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, 1, 1); as long as the longest silence, two bursts and a tail."""
        p = self.values
        return 4 * p.delayed_width + p.delayed_longest, p.delayed_channels, 1, 1

    def read(self, pool: str) -> tuple[Streams, np.ndarray]:
        p = self.values
        length, channels = self.stream_shape[:2]
        width, generator = p.delayed_width, self.generator(pool)
        number = 2 * (p.delayed_samples if pool == "train" else p.delayed_test_samples)
        labels = np.repeat(np.arange(2), number // 2)
        cue = generator.integers(0, 2, number)
        silence = generator.integers(p.delayed_shortest, p.delayed_longest + 1, number)
        frames = noise((number, length, channels), p.delayed_noise, generator)
        half = np.arange(channels) * 2 // channels
        for starts, side in ((np.zeros(number, int), cue), (width + silence, cue ^ labels)):
            burst = generator.random((number, width, channels)) < p.delayed_burst
            burst &= (half == side[:, None])[:, None]
            for sample, start in enumerate(starts):
                frames[sample, start : start + width] |= burst[sample]
        return self.streams(frames, labels, generator)
