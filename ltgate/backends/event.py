"""Compiled event-driven path for CPUs: synaptic work in proportion to spikes.

Images run one at a time, and one layer at a time over a block of up to ``BLOCK_STEPS`` steps. The
neurons of one position and up to 32 channels, with their compartments side by side, are a *unit*.

1. Spikes are bits. Those of a receptive field become, step by step, a list of rows of weights; a
   row holds the weights from one input to a unit. Summing the rows in registers gives the unit's
   currents.
2. The membranes run through the block in registers and leave their spikes as bits.
   A stream of events is one more plane of spikes, below the first layer.
3. When learning, the same lists serve the update, seen from the end of time: with the post trace
   p[t] = post[t] + decay p[t+1], the sum of post[t] x trace[t] over t is the sum of p[s] over the
   presynaptic spikes s: each adds p[s] to its row of the update.

Weights are integers in units of the grid: int16, as long as no sum of a neuron's weights can leave
its range, so currents are exact in any order. Everything else is calculated in the order of
:func:`ltgate.neurons.step`. Nothing depends on the number of threads.

:mod:`ltgate.loihi.twin` runs the chip's integers on the same kernels.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltgate.backends import Activity, shown_frames, trace_response
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
from ltgate.network import GRID, KERNEL, Network
from ltgate.neurons import COMPILED, Dynamics, Options
from ltgate.timescale import GATED, LEAST
from ltgate.timescale import UNIT as POWER_UNIT

NAME = "event"
BLOCK_STEPS = 256
SLICE_IMAGES = 32


def takes(dynamics: Dynamics, streamed: bool) -> bool:
    """One or two compartments, and the outputs that the kernels know."""
    known = dynamics.output in COMPILED and dynamics.compartments <= 2
    return known and (dynamics.follows == "nothing" or (dynamics.follows in GATED and streamed))


def available(device: str) -> bool:
    """CPUs only."""
    return device == "cpu"


def _aligned(size: int, dtype: type) -> np.ndarray:
    """Zeros that begin at a cache line: rows across two lines would cost twice the time."""
    memory = np.zeros(size * np.dtype(dtype).itemsize + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    return memory[offset : offset + size * np.dtype(dtype).itemsize].view(dtype)


class Values(NamedTuple):
    """The numbers of a network, layer by layer; their type decides the arithmetic.

    Either all are float32, or all but the weights are float64 and hold the chip's integers.

    Attributes:
        weights: float32 [C, out, inputs]; they are rounded to the grid.
        theta: [C, out] or [1, out].
        gate: [out], gamma; or the set point of a gate that follows the sample.
        gain: [C], on a sum of weights in units of the grid, times pixel bytes in the first layer
            under still images.
        decay: a_c, [C] for all layers.
        drive: [T].
        limit: [1], where the chip's membranes saturate.
    """

    weights: list[np.ndarray]
    theta: list[np.ndarray]
    gate: list[np.ndarray]
    gain: list[np.ndarray]
    decay: np.ndarray
    drive: np.ndarray
    limit: np.ndarray


class _Plan:
    """A network laid out for the kernels, for blocks of ``steps``.

    Attributes:
        layers: The ``LAYER`` records.
        dense: Numbers of the dense layers whose input is spikes.
        spikes, units, counts, theta, gate, weights: Sizes of what the records point into.
        deferred, immediate, traces: Likewise for ``decays`` of learning: updates of the dense
            layers, updates of the others, presynaptic traces.
    """

    def __init__(self, network: Any, steps: int, decays: int, streamed: bool = False) -> None:
        self.steps, self.compartments, self.streamed = steps, network.compartments, streamed
        self.follows = getattr(network, "dynamics", Dynamics()).follows
        self.layers = np.zeros(len(network.layers), LAYER)
        self.spikes = self.units = self.counts = self.theta = self.gate = self.weights = 0
        self.deferred = self.immediate = self.traces = 0
        self.dense = []
        plane = self._plane(network.layers[0].in_shape) if streamed else {}
        for number, layer in enumerate(network.layers):
            channels, height, width = layer.out_shape
            channels_below, in_height, in_width = layer.in_shape
            blocks = -(-channels // UNIT)
            kernel = (KERNEL, KERNEL) if layer.is_conv else (in_height, in_width)
            below, plane = plane, self._plane(layer.out_shape)
            if below:  # with their padding
                channels_below = 16 * below["pixel"]
                if not layer.is_conv:
                    self.dense.append(number)
            rows = kernel[0] * kernel[1] * channels_below
            lanes = blocks * self.compartments * UNIT
            dense = number in self.dense
            entry = {
                "stride": max(layer.stride, 1), "padding": layer.padding,
                "kernel_height": kernel[0], "kernel_width": kernel[1],
                "in_channels": layer.in_shape[0], "in_height": in_height, "in_width": in_width,
                "height": height, "width": width, "channels": channels, "blocks": blocks,
                "rows": rows, "dense": number if dense else -1, "raster": -1,
                "unit": self.units, "counts": self.counts,
                "theta": self.theta, "gate": self.gate, "weights": self.weights,
                "update": self.deferred if dense else self.immediate, "trace": self.traces,
                **plane, **{f"in_{name}": value for name, value in below.items()},
            }  # fmt: skip
            for name, value in entry.items():
                self.layers[name][number] = value
            self.units += height * width * blocks
            self.counts += layer.neurons
            self.theta += lanes
            self.gate += blocks * UNIT
            self.weights += rows * lanes
            self.deferred += dense * decays * blocks * rows * UNIT
            self.immediate += (not dense) * decays * blocks * rows * UNIT
            self.traces += decays * in_height * in_width * channels_below

    def _plane(self, shape: tuple[int, int, int]) -> dict[str, int]:
        """Room for the spikes of neurons [channels, height, width]."""
        channels, height, width = shape
        pixel = 1 if channels <= 16 else 2 * -(-channels // UNIT)
        pitch = (width + 2) * pixel
        begin, strip = self.spikes, self.steps * pitch
        self.spikes += height * strip
        return {"plane": begin, "pixel": pixel, "pitch": pitch, "strip": strip}

    def parts(self, numbers: Iterable[int]) -> list[tuple[int, int]]:
        """(layer, block of 32 channels) of the layers with these numbers."""
        return [(k, part) for k in numbers for part in range(self.layers["blocks"][k])]

    def model(self, values: Values, options: Options, each: Callable) -> Model:
        """Weights as integers, thresholds and gates in the kernels' layout."""
        real, theta, gate = values.decay.dtype, [], []
        for entry, thresholds, gates in zip(self.layers, values.theta, values.gate, strict=True):
            channels, padded = len(gates), entry["blocks"] * UNIT
            spread = np.full((self.compartments, padded), np.inf, real)
            spread[:, :channels] = thresholds
            theta.append(spread.reshape(self.compartments, -1, UNIT).swapaxes(0, 1).ravel())
            gate.append(np.pad(gates, (0, padded - channels), constant_values=1))
        return Model(
            layers=self.layers,
            weights=self._integers(values.weights, each),
            theta=np.concatenate(theta),
            gate=np.concatenate(gate),
            decay=values.decay,
            gain=np.concatenate(values.gain),
            drive=values.drive,
            frames=shown_frames(values.drive) if self.streamed else np.zeros(0, np.int64),
            limit=values.limit,
            target=self._targets(values),
            follows=(GATED.index(self.follows) + 1) if self.follows in GATED else 0,
            blend=options.blended,
            subtract=options.subtracts,
        )

    def _targets(self, values: Values) -> np.ndarray:
        """What the power of a whole layer is compared with (:func:`ltgate.timescale.follow`)."""
        positions = self.layers["height"] * self.layers["width"]
        sums = [max(np.rint(x.astype(float) * POWER_UNIT).sum(), 1.0) for x in values.gate]
        return np.array(sums) * positions

    def _integers(self, weights: list[np.ndarray], each: Callable) -> np.ndarray:
        parts = self.parts(range(len(weights)))

        def fill(item: tuple[int, int]) -> int:
            number, part = item
            rounded = np.empty((UNIT, weights[number].shape[2]), np.int16)
            largest = pack(self.layers[number], weights[number], part, packed, rounded)
            return largest if number or self.streamed else 0  # pixels are not summed as integers

        for dtype in (np.int16, np.int32):
            packed = _aligned(self.weights, dtype)
            if max(each(fill, parts)) < 2**15:
                break
        return packed

    def _power_type(self) -> type:
        """Where no gate follows it is empty, and of the type for which the kernels are compiled."""
        return np.float32 if self.follows == "neuron" else np.float64

    def scratch(self, model: Model) -> Scratch:
        """Working memory of one thread; pages never touched cost nothing."""
        row = self.compartments * UNIT
        rows = int(self.layers["rows"].max())
        followed = row * self.units if self.follows in GATED else 0
        return Scratch(
            current=_aligned(self.steps * row, model.weights.dtype),
            constant=_aligned(row, model.decay.dtype),
            tally=_aligned(UNIT + row, np.int16),
            membrane=_aligned(self.units * row, model.decay.dtype),
            awake=np.empty(self.units, np.uint8),
            spikes=np.zeros(self.spikes + 4, np.uint16),
            rows=np.empty(rows * self.steps + 8, np.uint16 if rows <= 2**16 else np.uint32),
            ends=np.zeros(self.steps, np.int64),
            post=_aligned(self.steps * UNIT, np.float32),
            gates=_aligned(self.steps * row if followed else 0, model.decay.dtype),
            trace=np.zeros(followed, np.float32),
            power=np.zeros(max(followed, self.steps * 2) if followed else 0, self._power_type()),
            total=np.zeros(len(self.layers) * 2),
        )


def _tape(kept: list[tuple]) -> Tape:
    """Join blocks of (steps, rows, ends, spikes, trace)."""
    steps, rows, ends, spikes, trace = zip(*kept, strict=True)
    starts = np.cumsum([0, *map(len, rows)])
    return Tape(
        np.array(steps), np.concatenate(rows), starts, np.stack(ends), np.stack(spikes),
        np.stack(trace),
    )  # fmt: skip


class _Pass:
    """One forward pass over a batch: the sums it fills, and the tasks that fill them.

    Convolutions keep an update per image of a slice. Dense layers, whose updates are large, keep
    their spikes on tape instead; their update is filled by blocks of neurons once a slice of images
    has been shown. So every sum runs in the order of the images, whatever the number of threads.
    """

    def __init__(
        self,
        network: Any,
        values: Values,
        images: Tensor,
        trace_decay: np.ndarray | None,
        raster: tuple[str, ...],
        threads: int,
        each: Callable,
    ) -> None:
        self.network, self.raster, self.each = network, raster, each
        self.images = images.cpu().flatten(1).contiguous().numpy()
        self.batch, self.steps = len(images), len(values.drive)
        self.rule = Rule(*trace_response(trace_decay, values.drive))
        self.decays = len(self.rule.decays)
        self.blocks = -(-self.steps // BLOCK_STEPS)
        steps = -(-self.steps // self.blocks)
        self.plan = plan = _Plan(network, steps, self.decays, streamed=images.ndim == 5)
        self.layers, size = plan.layers, 0
        for number, layer in enumerate(network.layers):
            if layer.name in raster:
                self.layers["raster"][number] = size
                size += self.steps * self.batch * layer.neurons
        self.rasters = np.zeros(size, np.uint8)
        self.counts = np.zeros(self.batch * plan.counts, np.int32)
        self.crossings = np.zeros((self.batch, plan.theta), np.int32)

        together = max(1, SLICE_IMAGES // self.blocks if self.decays else self.batch)
        self.slices = [
            range(begin, min(begin + together, self.batch))
            for begin in range(0, self.batch, together)
        ]
        slots = min(together, self.batch) if self.decays else 1
        self.slots = _aligned(slots * plan.immediate, np.float32).reshape(slots, plan.immediate)
        self.immediate = np.zeros(plan.immediate, np.float32)
        self.deferred = _aligned(plan.deferred, np.float32)
        self.tapes: dict[int, Tape] = {}

        self.model = plan.model(values, getattr(network, "dynamics", network), each)
        peaks = (len(self.layers), network.compartments, UNIT if values.decay.itemsize == 8 else 0)
        self.peaks = np.zeros((self.batch, *peaks), values.decay.dtype)
        self.at_rest = bool((self.model.theta > 0).all())
        self.spare = [plan.scratch(self.model) for _ in range(threads)]

    def show(self, index: int) -> dict[int, list[tuple]]:
        """Run one image; returns what :func:`_tape` takes, by dense layer."""
        plan, layers = self.plan, self.layers
        scratch = self.spare.pop()
        scratch.awake[:] = not self.at_rest
        scratch.trace[:] = scratch.power[:] = scratch.total[:] = 0
        if not self.at_rest:
            scratch.membrane[:] = 0
        slot = self.slots[index % len(self.slots)]
        slot[:] = 0
        record = Record(
            self.counts, self.crossings[index], self.rasters, slot, self.peaks[index].ravel()
        )
        trace = np.zeros(plan.traces if self.blocks > 1 else 0, np.float32)
        kept = {number: [] for number in plan.dense}
        cuts = sorted({0, *(plan.dense if self.decays else ()), len(layers)})
        for begin in range(0, self.steps, plan.steps):
            steps = min(plan.steps, self.steps - begin)
            for first, stop in pairwise(cuts):
                arrived = run(
                    self.model, self.rule, scratch, record, first, stop, self.images[index], index,
                    self.batch, begin, steps, trace,
                )  # fmt: skip
                if self.decays and first in kept:
                    layer = layers[first]
                    plane = scratch.spikes[layer["plane"] :][: layer["strip"]]
                    own = trace[layer["trace"] :][: self.decays * layer["rows"]]
                    block = scratch.rows[:arrived], scratch.ends, plane, own
                    kept[first].append((steps, *(array.copy() for array in block)))
            if self.decays and begin + steps < self.steps:
                keep_traces(layers, self.rule, scratch.spikes, steps, trace)
        self.spare.append(scratch)
        return kept

    def learn(self, item: tuple[int, int]) -> None:
        """Add a slice's tape to a block of neurons of a dense layer."""
        number, part = item
        scratch = self.spare.pop()
        layer, tape = self.layers[number], self.tapes[number]
        update_dense(layer, self.rule, part, tape, scratch.post, self.deferred)
        self.spare.append(scratch)

    def run(self) -> None:
        """Show all images and fill all sums."""
        for images in self.slices:
            shown = list(self.each(self.show, images))
            if self.decays:
                for index in images:
                    self.immediate += self.slots[index % len(self.slots)]
                for number in self.plan.dense:
                    self.tapes[number] = _tape([x for kept in shown for x in kept.pop(number)])
                list(self.each(self.learn, self.plan.parts(self.plan.dense)))

    def activity(self) -> Activity:
        """The sums, layer by layer, in the layout that callers know."""
        batch, plan = self.batch, self.plan
        activity = Activity(steps=self.steps)
        for number, layer in enumerate(self.network.layers):
            name, channels, size = layer.name, layer.out_shape[0], batch * layer.neurons
            entry = self.layers[number]
            own = self.counts[entry["counts"] * batch :][:size]
            activity.counts[name] = torch.from_numpy(own).view(batch, *layer.out_shape)
            shape = (batch, int(entry["blocks"]), plan.compartments, UNIT)
            own = self.crossings[:, entry["theta"] :][:, : int(np.prod(shape[1:]))]
            own = torch.from_numpy(own).view(shape).transpose(1, 2).flatten(2)[:, :, :channels]
            activity.crossings[name] = own.to(torch.int64).contiguous()
            if name in self.raster:
                own = torch.from_numpy(self.rasters[entry["raster"] :][: self.steps * size])
                activity.rasters[name] = own.view(self.steps, batch, *layer.out_shape)
            if self.decays:
                activity.updates[name] = torch.empty(layer.weight.shape)

        def lay_out(item: tuple[int, int]) -> None:
            number, part = item
            target = activity.updates[self.network.layers[number].name].flatten(2).numpy()
            update = self.deferred if number in plan.dense else self.immediate
            unpack(self.layers[number], update, part, self.decays, target)

        if self.decays:
            list(self.each(lay_out, plan.parts(range(len(self.layers)))))
        return activity


@torch.no_grad()
def simulate(
    network: Any,
    values: Values,
    images: Tensor,
    trace_decay: np.ndarray | None,
    raster: tuple[str, ...],
) -> tuple[Activity, np.ndarray]:
    """Show images; also the peaks of :class:`ltgate.backends.kernels.Record`, [B, layers, C, 32].

    Args:
        network: Geometry and options: in floats, or in the chip's integers.
        values: Its numbers.
        images: Integers [B, channels, height, width], or [B, frames, channels, height, width].
        trace_decay, raster: As in :func:`ltgate.backends.forward`.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        each = map if threads == 1 else pool.map
        running = _Pass(network, values, images, trace_decay, raster, threads, each)
        running.run()
        return running.activity(), running.peaks


def forward(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    trace_decay: np.ndarray | None = None,
    raster: tuple[str, ...] = (),
) -> Activity:
    """See :func:`ltgate.backends.forward`. Uses ``torch.get_num_threads()`` threads of its own."""
    values = _values(network, schedule, streamed=images.ndim == 5)
    return simulate(network, values, images, trace_decay, raster)[0]


def _values(network: Network, schedule: Schedule, streamed: bool) -> Values:
    layers, dynamics = network.layers, network.dynamics
    gain = dynamics.gain(schedule.charge_ms) * np.float32(GRID)
    weights = (x.forward_weight if x.bits else x.weight for x in layers)  # pack rounds to the grid
    return Values(
        weights=[weight.detach().cpu().flatten(2).contiguous().numpy() for weight in weights],
        theta=[layer.threshold.cpu().numpy() for layer in layers],
        gate=[
            (layer.gate.clamp_min(LEAST) if dynamics.follows in GATED else layer.forward_gate)
            .cpu()
            .numpy()
            for layer in layers
        ],
        gain=[gain if streamed else gain / np.float32(256), *[gain] * (len(layers) - 1)],
        decay=dynamics.decay(schedule.dt_ms),
        drive=np.ascontiguousarray(schedule.drive, np.float32),
        limit=np.array([np.inf], np.float32),
    )
