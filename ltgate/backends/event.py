"""Compiled event-driven path for CPUs: synaptic work in proportion to spikes.

Images run one at a time, and one layer at a time over a block of up to ``BLOCK_STEPS`` steps. The
neurons of one position and up to 32 channels, with their compartments side by side, are a *unit*.

1. Spikes are bits. Those of a receptive field become, step by step, a list of rows of weights; a
   row holds the weights from one input to a unit. Summing the rows in registers gives the unit's
   currents.
2. The membranes run through the block in registers and leave their spikes as bits.
3. When learning, the same lists serve the update, seen from the end of time: with the post trace
   p[t] = post[t] + decay p[t+1], the sum of post[t] x trace[t] over t is the sum of p[s] over the
   presynaptic spikes s: each adds p[s] to its row of the update.

Weights are integers in units of the grid: int16, as long as no sum of a neuron's weights can leave
its range, so currents are exact in any order. Everything else is calculated in the order of
:func:`ltgate.neurons.step`. Nothing depends on the number of threads.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ltgate.backends import Activity
from ltgate.backends.kernels import (
    LAYER,
    UNIT,
    Model,
    Record,
    Rule,
    Scratch,
    Tape,
    keep_traces,
    pack,
    run,
    unpack,
    update_dense,
)
from ltgate.data.tasks import Schedule
from ltgate.network import GRID, Network

NAME = "event"
BLOCK_STEPS = 256
SLICE_IMAGES = 32


def available(device: str) -> bool:
    """CPUs only."""
    return device == "cpu"


def _aligned(size: int, dtype: type) -> np.ndarray:
    """Zeros that begin at a cache line: rows across two lines would cost twice the time."""
    memory = np.zeros(size * np.dtype(dtype).itemsize + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    return memory[offset : offset + size * np.dtype(dtype).itemsize].view(dtype)


class _Plan:
    """A network laid out for the kernels, for blocks of ``steps``.

    Attributes:
        layers: The ``LAYER`` records.
        dense: Numbers of the dense layers that follow another layer.
        spikes, units, counts, theta, gate, weights: Sizes of what the records point into.
        deferred, immediate, traces: Likewise for ``decays`` of learning: updates of the dense
            layers, updates of the others, presynaptic traces.
    """

    def __init__(self, network: Network, steps: int, decays: int) -> None:
        self.network, self.steps = network, steps
        self.compartments = network.dynamics.compartments
        self.layers = np.zeros(len(network.layers), LAYER)
        self.dense = [k for k, layer in enumerate(network.layers) if k and not layer.is_conv]
        self.spikes = self.units = self.counts = self.theta = self.gate = self.weights = 0
        self.deferred = self.immediate = self.traces = 0
        for number, layer in enumerate(network.layers):
            channels, height, width = layer.out_shape
            _, in_height, in_width = layer.in_shape
            blocks = -(-channels // UNIT)
            pixel = 1 if channels <= 16 else 2 * blocks
            pitch = (width + 2) * pixel
            stride, padding, kernel = (layer.stride, 1, (3, 3)) if layer.is_conv else (
                1, 0, (in_height, in_width)
            )  # fmt: skip
            below = self.layers[number - 1] if number else None
            channels_below = 1 if below is None else 16 * int(below["pixel"])
            rows = kernel[0] * kernel[1] * channels_below
            lanes = blocks * self.compartments * UNIT
            dense = number in self.dense
            entry = {
                "stride": stride, "padding": padding,
                "kernel_height": kernel[0], "kernel_width": kernel[1],
                "in_height": in_height, "in_width": in_width,
                "height": height, "width": width, "channels": channels, "blocks": blocks,
                "rows": rows, "pixel": pixel, "pitch": pitch, "strip": steps * pitch,
                "dense": number if dense else -1, "raster": -1,
                "plane": self.spikes, "unit": self.units, "counts": self.counts,
                "theta": self.theta, "gate": self.gate, "weights": self.weights,
                "update": self.deferred if dense else self.immediate, "trace": self.traces,
            }  # fmt: skip
            for name in ("plane", "pixel", "pitch", "strip") if number else ():
                entry[f"in_{name}"] = int(below[name])
            for name, value in entry.items():
                self.layers[name][number] = value
            self.spikes += height * steps * pitch
            self.units += height * width * blocks
            self.counts += layer.neurons
            self.theta += lanes
            self.gate += blocks * UNIT
            self.weights += rows * lanes
            self.deferred += dense * decays * blocks * rows * UNIT
            self.immediate += (not dense) * decays * blocks * rows * UNIT
            self.traces += decays * in_height * in_width * channels_below

    def parts(self, numbers: Iterable[int]) -> list[tuple[int, int]]:
        """(layer, block of 32 channels) of the layers with these numbers."""
        return [(k, part) for k in numbers for part in range(self.layers["blocks"][k])]

    def model(self, schedule: Schedule, each: Callable) -> Model:
        """Weights as integers, thresholds and gates in the kernels' layout."""
        dynamics = self.network.dynamics
        theta, gate = [], []
        for entry, layer in zip(self.layers, self.network.layers, strict=True):
            channels, padded = layer.out_shape[0], entry["blocks"] * UNIT
            spread = np.full((self.compartments, padded), np.inf, np.float32)
            spread[:, :channels] = layer.threshold.cpu()
            theta.append(spread.reshape(self.compartments, -1, UNIT).swapaxes(0, 1).ravel())
            gate.append(np.pad(layer.forward_gate.cpu().numpy(), (0, padded - channels)))
        gain = dynamics.gain(schedule.charge_ms)
        return Model(
            layers=self.layers,
            weights=self._integers(each),
            theta=np.concatenate(theta),
            gate=np.concatenate(gate),
            decay=dynamics.decay(schedule.dt_ms),
            gain=gain,
            grid_gain=gain * np.float32(GRID),
            drive=np.ascontiguousarray(schedule.drive, np.float32),
            blend=dynamics.output == "blend" and self.compartments == 2,
            subtract=dynamics.reset == "subtract",
        )

    def _integers(self, each: Callable) -> np.ndarray:
        weights = [layer.weight.detach().cpu().flatten(2).contiguous().numpy()
                   for layer in self.network.layers]  # fmt: skip
        parts = self.parts(range(len(weights)))

        def fill(item: tuple[int, int]) -> int:
            number, part = item
            rounded = np.empty((UNIT, weights[number].shape[2]), np.int16)
            largest = pack(self.layers[number], weights[number], part, packed, rounded)
            return largest if number else 0  # the first layer's currents are not summed as integers

        for dtype in (np.int16, np.int32):
            packed = _aligned(self.weights, dtype)
            if max(each(fill, parts)) < 2**15:
                break
        return packed

    def scratch(self, dtype: type) -> Scratch:
        """Working memory of one thread; pages never touched cost nothing."""
        row = self.compartments * UNIT
        rows = int(self.layers["rows"].max())
        return Scratch(
            current=_aligned(self.steps * row, dtype),
            constant=_aligned(row, np.float32),
            tally=_aligned(UNIT + row, np.int16),
            membrane=_aligned(self.units * row, np.float32),
            awake=np.empty(self.units, np.uint8),
            spikes=np.zeros(self.spikes + 4, np.uint16),
            rows=np.empty(rows * self.steps + 8, np.uint16 if rows <= 2**16 else np.uint32),
            ends=np.zeros(self.steps, np.int64),
            post=_aligned(self.steps * UNIT, np.float32),
        )


def _rule(trace_decay: np.ndarray | None, drive: np.ndarray) -> Rule:
    """Equal decays give equal updates: keep one of them."""
    decays = np.zeros(0, np.float32)
    if trace_decay is not None:
        decays = np.ascontiguousarray(trace_decay, np.float32)
        if (decays == decays[0]).all():
            decays = decays[:1]
    response = np.zeros((len(decays), len(drive)), np.float32)
    for t in range(len(drive) if len(decays) else 0):
        response[:, t] = drive[t] + (decays * response[:, t - 1] if t else 0)
    return Rule(decays, response)


@torch.no_grad()
def forward(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    trace_decay: np.ndarray | None = None,
    raster: tuple[str, ...] = (),
) -> Activity:
    """See :func:`ltgate.backends.forward`. Uses ``torch.get_num_threads()`` threads of its own."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        each = map if threads == 1 else pool.map
        return _forward(network, images, schedule, trace_decay, raster, each, threads)


def _forward(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    trace_decay: np.ndarray | None,
    raster: tuple[str, ...],
    each: Callable,
    threads: int,
) -> Activity:
    batch, steps = len(images), len(schedule.drive)
    pixels = np.ascontiguousarray(images.cpu().numpy()).reshape(batch, -1)
    blocks = -(-steps // BLOCK_STEPS)
    rule = _rule(trace_decay, schedule.drive)
    decays = len(rule.decays)
    plan = _Plan(network, -(-steps // blocks), decays)
    layers, wanted = plan.layers, 0
    for number, layer in enumerate(network.layers):
        if layer.name in raster:
            layers["raster"][number], wanted = wanted, wanted + steps * batch * layer.neurons

    # Convolutions keep an update per image of a slice; dense layers, whose updates are large, keep
    # their spikes, and the update is done by blocks of neurons: one sum each, in the images' order.
    together = max(1, SLICE_IMAGES // blocks) if decays else max(batch, 1)
    slots = np.zeros((min(together, batch) if decays else 1, plan.immediate), np.float32)
    immediate = np.zeros(plan.immediate, np.float32)
    deferred = _aligned(plan.deferred, np.float32)
    counts = np.zeros(batch * plan.counts, np.int32)
    crossings = np.zeros((batch, plan.theta), np.int32)
    rasters = np.zeros(wanted, np.uint8)

    model = plan.model(schedule, each)
    at_rest = bool((model.theta > 0).all())
    spare = [plan.scratch(model.weights.dtype) for _ in range(threads)]
    cuts = [0, *(plan.dense if decays else ()), len(layers)]

    def show(index: int) -> dict[int, list[Tape]]:
        scratch = spare.pop()
        scratch.membrane[:] = 0
        scratch.awake[:] = not at_rest
        slot = slots[index % len(slots)]
        slot[:] = 0
        record = Record(counts, crossings[index], rasters, slot)
        trace = np.zeros(plan.traces if blocks > 1 else 0, np.float32)
        tapes = {number: [] for number in plan.dense}
        for begin in range(0, steps, plan.steps):
            now = min(plan.steps, steps - begin)
            past = trace if begin else trace[:0]
            for first, stop in pairwise(cuts):
                arrived = run(
                    model, rule, scratch, record, first, stop, pixels[index], index, batch, begin,
                    now, past,
                )  # fmt: skip
                if decays and first:
                    plane = scratch.spikes[layers["plane"][first] :][: layers["strip"][first]]
                    rows, ends = scratch.rows[:arrived].copy(), scratch.ends.copy()
                    tapes[first].append(Tape(now, rows, ends, plane.copy(), past.copy()))
            if decays and begin + now < steps:
                keep_traces(layers, rule, scratch.spikes, now, trace)
        spare.append(scratch)
        return tapes

    def learn(item: tuple[int, int]) -> None:
        number, part = item
        scratch = spare.pop()
        for shown in tapes:
            for tape in shown[number]:
                update_dense(layers[number], rule, part, tape, scratch.post, deferred)
        spare.append(scratch)

    for begin in range(0, batch, together):
        now = range(begin, min(begin + together, batch))
        tapes = list(each(show, now))
        if decays:
            for index in now:
                immediate += slots[index % len(slots)]
            list(each(learn, plan.parts(plan.dense)))

    activity = Activity(steps=steps)
    for number, layer in enumerate(network.layers):
        name, channels = layer.name, layer.out_shape[0]
        own = counts[layers["counts"][number] * batch :][: batch * layer.neurons]
        activity.counts[name] = torch.from_numpy(own).view(batch, *layer.out_shape)
        lanes = layers["blocks"][number] * plan.compartments * UNIT
        own = crossings[:, layers["theta"][number] :][:, :lanes].astype(np.int64)
        own = own.reshape(batch, -1, plan.compartments, UNIT).swapaxes(1, 2)
        own = own.reshape(batch, plan.compartments, -1)[:, :, :channels]
        activity.crossings[name] = torch.from_numpy(np.ascontiguousarray(own))
        if name in raster:
            own = rasters[layers["raster"][number] :][: steps * batch * layer.neurons]
            activity.rasters[name] = torch.from_numpy(own).view(steps, batch, *layer.out_shape)
        if decays:
            activity.updates[name] = torch.empty(layer.weight.shape)

    def lay_out(item: tuple[int, int]) -> None:
        number, part = item
        target = activity.updates[network.layers[number].name].flatten(2).numpy()
        update = deferred if number in plan.dense else immediate
        unpack(layers[number], update, part, decays, target)

    if decays:
        list(each(lay_out, plan.parts(range(len(layers)))))
    return activity
