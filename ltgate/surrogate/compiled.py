"""Compiled engine for CPUs: spikes as lists, membranes tile by tile, one dense product a layer.

One image at a time; a *tile* is all T steps and all neurons of one position, small enough for the
cache, and contiguous. Forward, every spike of a position's receptive field adds one row of weights
to its step of the tile, and the scan turns these currents into membranes in place. Backward, the
reverse scan turns the membranes into the gradients of the currents, again in place; the same spike
lists say which rows of the weight gradient they belong to; and the gradient for the layer below is
one matrix product over many tiles. Only that product is dense, since the surrogate's derivative is
nowhere zero. Positions that no bright pixel can reach are left out: all their inputs are zero, so
what they would add to any gradient is zero.

Memory is one image's membranes and gradients per thread, reused from image to image.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ltgate.data.tasks import Schedule
from ltgate.network import KERNEL, Layer, Network
from ltgate.neurons import Dynamics
from ltgate.processes import on_threads
from ltgate.surrogate import tiles

SLICE_IMAGES = 4  # what one thread adds up before it hands its gradients over
PRODUCT_ROWS = 1024  # rows of one dense product: its result stays in the cache


def takes(device: str, dynamics: Dynamics, streamed: bool) -> bool:
    """CPUs, still images, and the neurons of the compiled backends."""
    known = dynamics.compartments <= 2 and dynamics.follows == "nothing"
    return device == "cpu" and known and not streamed


def _padded(channels: int) -> int:
    return -(-channels // tiles.LANES) * tiles.LANES


class Part:
    """A layer laid out for the kernels, shared by all threads.

    ``weight`` is [taps * channels, C * width]; a dense layer is one position with a tap for every
    position below. ``channels`` are those below, with their padding.
    """

    def __init__(
        self,
        layer: Layer,
        channels: int,
        dynamics: Dynamics,
        schedule: Schedule,
        dtype: torch.dtype,
    ) -> None:
        compartments = dynamics.compartments
        self.layer = layer
        self.compartments = compartments
        self.width = _padded(layer.out_shape[0])
        self.reach = _reach(layer.stride, layer.in_shape, layer.out_shape, channels)
        self.positions = len(self.reach.first) - 1

        more = self.width - layer.out_shape[0]
        weight = layer.forward_weight.to(dtype)
        weight = weight.reshape(*weight.shape[:2], layer.in_shape[0], -1).permute(3, 2, 0, 1)
        weight = torch.nn.functional.pad(weight, (0, more, 0, 0, 0, channels - layer.in_shape[0]))
        self.weight = weight.reshape(-1, compartments * self.width).contiguous()
        theta = layer.threshold.to(dtype).expand(compartments, -1)
        theta = torch.nn.functional.pad(theta, (0, more), value=float("inf")).numpy()
        gate = torch.nn.functional.pad(layer.forward_gate.to(dtype), (0, more)).numpy()
        self.neuron = tiles.Neuron(
            dynamics.decay(schedule.dt_ms).astype(theta.dtype),
            dynamics.gain(schedule.charge_ms).astype(theta.dtype),
            theta,
            gate,
            dynamics.blended,
            dynamics.subtracts,
        )

    def unpacked(self, update: Tensor) -> Tensor:
        """A weight gradient in the shape of the layer's weights."""
        update = update.view(-1, self.reach.channels, self.compartments, self.width)
        update = update[:, : self.layer.in_shape[0], :, : self.layer.out_shape[0]]
        return update.permute(2, 3, 1, 0).reshape(self.layer.weight.shape)


@lru_cache(maxsize=64)
def _reach(
    stride: int, in_shape: tuple[int, int, int], out_shape: tuple[int, int, int], channels: int
) -> tiles.Reach:
    """Which positions of a layer are reached from where, and through which rows of weights."""
    _, height, width = in_shape
    is_conv = stride > 0
    rows, columns = (KERNEL, KERNEL) if is_conv else (height, width)
    first, row, source = [0], [], []
    for y, x in product(range(out_shape[1]), range(out_shape[2])):
        for tap, (down, right) in enumerate(product(range(rows), range(columns))):
            from_y, from_x = y * stride + down - is_conv, x * stride + right - is_conv
            if 0 <= from_y < height and 0 <= from_x < width:
                row.append(tap * channels)
                source.append(from_y * width + from_x)
        first.append(len(row))
    return tiles.Reach(np.array(first), np.array(row), np.array(source), channels)


def _empty(part: Part, *shape: int) -> np.ndarray:
    """Memory that starts at a cache line, as PyTorch's does and NumPy's does not."""
    return torch.empty(shape, dtype=part.weight.dtype).numpy()


class Memory:
    """One thread's memory for one layer."""

    def __init__(self, part: Part, steps: int, is_first: bool) -> None:
        neurons = part.positions * steps * part.width
        kept = 1 if is_first else part.positions  # the first layer's are made twice instead
        small = np.uint16 if max(steps, part.width) < 1 << 16 else np.uint32
        self.tiles = _empty(part, kept, steps, part.compartments, part.width)
        self.upstream = _empty(part, part.positions, steps, part.width)
        self.bits = np.empty(steps * part.width // tiles.LANES, np.uint16)
        self.spikes = tiles.Spikes(
            np.empty(neurons, small),
            np.empty(neurons, small),
            np.zeros(part.positions + 1, np.int64),
        )
        self.counts = np.empty((part.positions, part.width), np.int32)
        self.slot = np.empty(part.positions, np.int64)
        self.positions = np.empty(part.positions, np.int64)
        self.live = self.positions[:0]


class Worker:
    """One thread: its memory, and the two passes over an image."""

    def __init__(self, parts: list[Part], schedule: Schedule, slope: float) -> None:
        dtype = parts[0].neuron.theta.dtype
        self.parts = parts
        self.drive = schedule.drive.astype(dtype)
        self.slope = dtype.type(slope)
        self.steps = len(self.drive)
        self.memory = [Memory(part, self.steps, i == 0) for i, part in enumerate(parts)]
        self.at_once = max(1, PRODUCT_ROWS // self.steps)
        widest = max((len(part.weight) for part in parts[1:]), default=0)
        self.products = _empty(parts[0], self.at_once * self.steps * widest)
        self.every = any((part.neuron.theta <= 0).any() for part in parts)

    def _source(self, index: int, pixels: np.ndarray) -> tiles.Source:
        """What a layer receives of an image [positions x channels]."""
        below = self.memory[max(0, index - 1)].spikes
        return tiles.Source(index == 0, pixels, self.drive, below)

    def forward(self, pixels: np.ndarray) -> dict[str, Tensor]:
        """Show an image [positions x channels]; spike counts [1, channels, height, width]."""
        lit = pixels.reshape(-1, self.parts[0].reach.channels).any(1) - 1  # 0 or -1
        counts = {}
        for index, (part, own) in enumerate(zip(self.parts, self.memory, strict=True)):
            found = tiles.find_live(part.reach, self.every, lit, own.positions, own.slot)
            own.live, lit = own.positions[:found], own.slot
            tiles.forward(
                self._source(index, pixels), own.live, part.reach, part.weight.numpy(),
                part.neuron, own.tiles, own.bits, own.spikes, own.counts,
            )  # fmt: skip
            shape = part.layer.out_shape
            count = own.counts[:, : shape[0]].T.copy()
            counts[part.layer.name] = torch.from_numpy(count).view(1, *shape)
        return counts

    def backward(self, pixels: np.ndarray, top: dict[str, Tensor], updates: list[Tensor]) -> None:
        """Add the weight gradients of the image shown last to ``updates``.

        ``top`` holds the gradients of the loss with respect to spike counts.
        """
        for part, own in zip(self.parts, self.memory, strict=True):
            channels = part.layer.out_shape[0]
            gradient = top[part.layer.name].reshape(channels, -1).T.numpy()
            own.upstream[: len(own.live), :, channels:] = 0
            own.upstream[: len(own.live), :, :channels] = gradient[own.live][:, None]
        for index in range(len(self.parts) - 1, -1, -1):
            part, own = self.parts[index], self.memory[index]
            tiles.backward(
                self._source(index, pixels), own.live, part.reach, part.weight.numpy(),
                part.neuron, self.slope, own.tiles, own.bits, own.upstream, updates[index].numpy(),
            )  # fmt: skip
            if index:
                self._down(part, own, self.memory[index - 1])

    def _down(self, part: Part, own: Memory, below: Memory) -> None:
        """From the gradients of a layer's currents to those of the spikes below it."""
        inputs, row = part.weight.shape
        currents = torch.from_numpy(own.tiles).view(-1, row)  # their gradients
        for begin in range(0, len(own.live), self.at_once):
            end = min(begin + self.at_once, len(own.live))
            rows = slice(begin * self.steps, end * self.steps)
            products = self.products[: (rows.stop - rows.start) * inputs].reshape(-1, inputs)
            torch.mm(currents[rows], part.weight.T, out=torch.from_numpy(products))
            tiles.spread(products, begin, end, own.live, part.reach, below.slot, below.upstream)


@torch.no_grad()
def backpropagate(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    top: Callable[[dict[str, Tensor], slice], dict[str, Tensor]],
    slope: float,
    dtype: torch.dtype,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """See :func:`ltgate.surrogate.gradients.backpropagate`; on ``torch.get_num_threads()`` threads.

    Slices are summed in their order, so the result does not depend on the number of threads.
    """
    parts: list[Part] = []
    channels = network.layers[0].in_shape[0]
    for layer in network.layers:
        parts.append(Part(layer, channels, network.dynamics, schedule, dtype))
        channels = parts[-1].width
    pixels = network.pixels(images).to(dtype).permute(0, 2, 3, 1).flatten(1).contiguous().numpy()
    spare: list[Worker] = []  # fresh memory is slow: everything large is used again
    used: list[list[Tensor]] = []

    def learn(begin: int) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
        worker = spare.pop() if spare else Worker(parts, schedule, slope)
        updates = used.pop() if used else [torch.empty_like(part.weight) for part in parts]
        for update in updates:
            update.zero_()
        counts = []
        for b in range(begin, min(begin + SLICE_IMAGES, len(pixels))):
            counts.append(worker.forward(pixels[b]))
            worker.backward(pixels[b], top(counts[-1], slice(b, b + 1)), updates)
        spare.append(worker)
        return counts, updates

    totals = [torch.zeros_like(part.weight) for part in parts]
    counts: list[dict[str, Tensor]] = []
    with on_threads(1) as threads, ThreadPoolExecutor(threads) as pool:
        for shown, updates in pool.map(learn, range(0, len(pixels), SLICE_IMAGES)):
            counts += shown
            for total, update in zip(totals, updates, strict=True):
                total += update
            used.append(updates)
    return (
        {name: torch.cat([shown[name] for shown in counts]) for name in network.names},
        {part.layer.name: part.unpacked(x) for part, x in zip(parts, totals, strict=True)},
    )
