"""Spike times from smooth random manifolds: what the generated streams are made of.

A class is a smooth random closed curve: a point u in [0, 1) of it gives every channel one time. The
times are functions of u alone, so a class is an order in which the channels fire, and rates carry
nothing. Source: Zenke & Vogels 2021, "The remarkable robustness of surrogate gradient learning for
instilling complex function in spiking neural networks".
"""

import numpy as np

from ltgate.data.streams import Streams, from_frames

HARMONICS = 12


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


def shuffled(
    frames: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> tuple[Streams, np.ndarray]:
    """Frames [N, F, channels] as streams in random order, and labels uint8 in the same."""
    order = generator.permutation(len(labels))
    return from_frames(frames[order][..., None, None]), labels[order].astype(np.uint8)


def noise(shape: tuple[int, int, int], rate: float, generator: np.random.Generator) -> np.ndarray:
    """Background events, each with probability ``rate``: uint8 [N, F, channels]."""
    return (generator.random(shape, dtype=np.float32) < rate).astype(np.uint8)
