"""The integer network in plain NumPy int64, step by step, and random networks to try it on."""

from typing import NamedTuple

import numpy as np

from ltgate.loihi.quantnet import QuantLayer, QuantNetwork


class Activity(NamedTuple):
    """By layer name.

    Attributes:
        rasters: Spikes, uint8 [T, B, channels, height, width].
        crossings: How often each compartment reached the threshold by itself, [B, K, channels].
        peaks: The largest |v| of each compartment before it was clipped, [K].
    """

    rasters: dict[str, np.ndarray]
    crossings: dict[str, np.ndarray]
    peaks: dict[str, np.ndarray]


def activity(net: QuantNetwork, images: np.ndarray, drive: np.ndarray) -> Activity:
    """Everything that is counted."""
    batch = len(images)
    crossings = {x.name: np.zeros((batch, net.compartments, x.out_shape[0]), int)
                 for x in net.layers}  # fmt: skip
    peaks = {x.name: np.zeros(net.compartments) for x in net.layers}
    membranes = [np.zeros((batch, net.compartments, *x.out_shape), np.int64) for x in net.layers]
    rasters = {x.name: [] for x in net.layers}
    shown = iter(np.moveaxis(images, 1, 0)) if images.ndim == 5 else None  # a stream's frames
    for level in np.asarray(drive, np.int64):
        now = next(shown) if shown and level else images[:, 0] if shown else images
        inputs = now.reshape(batch, *net.layers[0].in_shape).astype(np.int64) * level
        for number, layer in enumerate(net.layers):
            spikes = np.zeros((batch, *layer.out_shape), bool)
            v = membranes[number]
            for k in range(net.compartments):
                charge = _currents(layer, inputs, k)
                e = int(layer.exponent[k])
                charge = charge * 2**e if e >= 0 else np.floor_divide(charge, 2**-e)
                kept = np.abs(v[:, k]) * (4096 - int(net.decay[k])) // 4096
                grown = np.sign(v[:, k]) * kept + charge
                peaks[layer.name][k] = max(peaks[layer.name][k], abs(grown).max())
                v[:, k] = np.clip(grown, -net.limit, net.limit)
            theta = layer.threshold[:, :, None, None]
            crossings[layer.name] += (v >= theta).sum((3, 4))
            if net.blended:
                g = layer.gate[:, None, None]
                spikes = g * v[:, 0] + (128 - g) * v[:, 1] >= 128 * theta[0]
                reset = np.stack([spikes, spikes], 1)
                theta = np.repeat(theta, 2, 0)
            else:
                reset = v >= theta
                spikes = reset.any(1)
            membranes[number] = v - reset * theta if net.reset == "subtract" else v * ~reset
            rasters[layer.name].append(spikes.astype(np.uint8))
            inputs = spikes.astype(np.int64)
    rasters = {name: np.stack(steps) for name, steps in rasters.items()}
    return Activity(rasters, crossings, peaks)


def _currents(layer: QuantLayer, inputs: np.ndarray, k: int) -> np.ndarray:
    weight = layer.weight[k].astype(np.int64)
    out, height, width = layer.out_shape
    if not layer.is_conv:
        return (inputs.reshape(len(inputs), -1) @ weight.T).reshape(-1, out, height, width)
    pad = layer.padding
    padded = np.pad(inputs, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    total = np.zeros((len(inputs), out, height, width), np.int64)
    for y in range(height):
        for x in range(width):
            top, left = y * layer.stride, x * layer.stride
            patch = padded[:, :, top : top + 3, left : left + 3]
            total[:, :, y, x] = np.einsum("bihw,oihw->bo", patch, weight)
    return total


def draw(
    random: np.random.Generator, compartments: int = 0, limit: int = 0, side: int = 0, channels=1
) -> QuantNetwork:
    """A random network whose layers all spike: 1 to 3 convolutions, maybe a dense layer.

    Strides, padding, exponents of either sign, gates, outputs, resets and (often) membranes that
    saturate differ from draw to draw.
    """
    count = compartments or int(random.integers(1, 3))
    side = side or int(random.integers(6, 10))
    shape = (channels, side, side)
    output = str(random.choice(["or", "blend"]))
    layers = []
    for number in range(random.integers(1, 4)):
        stride, padding = int(random.integers(1, 3)), int(random.integers(0, 2))
        size = (shape[1] + 2 * padding - 3) // stride + 1
        if size < 1:
            break
        out = (int(random.integers(1, 6)) if random.random() < 0.7 else 33, size, size)
        weight = random.integers(-127, 128, (count, out[0], shape[0], 3, 3))
        layers.append(_layer(random, f"conv{number + 1}", stride, padding, shape, out, weight,
                             output == "blend" and count == 2))  # fmt: skip
        shape = out
    if random.random() < 0.5:
        out = (int(random.integers(2, 8)), 1, 1)
        weight = random.integers(-127, 128, (count, out[0], int(np.prod(shape))))
        layers.append(_layer(random, "dense1", 0, 0, shape, out, weight,
                             output == "blend" and count == 2))  # fmt: skip
    net = QuantNetwork(
        layers, np.sort(random.integers(5, 1500, count))[::-1].copy(), output,
        str(random.choice(["subtract", "zero"])),
    )  # fmt: skip
    if limit:
        net.limit = limit
    elif random.random() < 0.3:
        net.limit = int(random.integers(2**13, 2**17))
    return net


def _layer(random, name, stride, padding, shape, out, weight, blend) -> QuantLayer:
    count = len(weight)
    first = name == "conv1"
    exponent = random.integers(-4, 3, count) if first else random.integers(-2, 9, count)
    if blend:
        exponent[:] = exponent[0]
    size = 9 * shape[0] if stride else int(np.prod(shape))
    typical = 60 * np.sqrt(size) * (100 if first else 0.5) * 2.0**exponent
    rows = 1 if blend else count
    theta = typical[:rows, None] * random.uniform(0.2, 2, (rows, out[0]))
    shift = random.integers(0, 4, rows)
    theta = np.clip(theta / 2.0 ** shift[:, None], 1, 2**17 - 1).astype(int) << shift[:, None]
    return QuantLayer(
        name, stride, padding, shape, out, weight.astype(np.int8), exponent, theta,
        random.integers(0, 129, out[0]),
    )  # fmt: skip


def images(random: np.random.Generator, net: QuantNetwork, number: int) -> np.ndarray:
    """Graded inputs: bytes, or (one time in three) signed values."""
    shape = net.layers[0].in_shape
    shape = shape[shape[0] == 1 :]
    low = -255 if random.random() < 0.33 else 0
    drawn = random.integers(low, 256, (number, *shape)).astype(np.int32)
    drawn[random.random(drawn.shape) < 0.4] = 0
    return drawn


def streamed(
    random: np.random.Generator, net: QuantNetwork, number: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """A stream, uint8 [number, frames, channels, height, width], and its drive with silence.

    The network's first layer, drawn for bytes, gets thresholds for events.
    """
    clock = random.integers(0, 3, steps) > 0
    frames = random.random((number, clock.sum(), *net.layers[0].in_shape)) < 0.3
    net.layers[0].threshold = np.maximum(net.layers[0].threshold // 200, 1)
    return frames.astype(np.uint8), clock.astype(np.int64)


def drive(random: np.random.Generator, steps: int) -> np.ndarray:
    """Every step, every few steps, or numbers of frames that differ."""
    kind = random.integers(3)
    if kind == 0:
        return np.ones(steps, np.int64)
    if kind == 1:
        return (np.arange(steps) % int(random.integers(2, 6)) == 0).astype(np.int64)
    return random.integers(0, 4, steps)
