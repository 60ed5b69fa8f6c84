"""Compiled event-driven path for CPUs: synaptic work in proportion to spikes.

One image at a time, one layer at a time, over a block of up to ``BLOCK_STEPS`` time steps. A *unit*
is one position and up to 32 channels, with all their compartments. For each unit:

1. every spike of its receptive field adds one row of weights (all channels and compartments of the
   unit, side by side) to the current of its step; spikes arrive as lists of ``step * width + channel``
   per unit of the layer below;
2. the membranes run through the block in registers, and the spikes leave as such a list;
3. when learning, the same lists drive the update, from the other end of time: with the post trace
   p[t] = post[t] + decay p[t+1], sum_t post[t] x trace[t] = sum over presynaptic spikes s of p[s].

All arithmetic is exact or done in the order of :func:`ltgate.neurons.step`. Weights are integers in
units of the grid (int16 wherever no sum can leave its range), so currents are exact in any order.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ltgate.backends import Activity
from ltgate.backends.lanes import (
    load16,
    load32,
    load64,
    select,
    splat16,
    store,
    to_bits,
    to_float,
    to_int,
    trailing_zeros,
)
from ltgate.data.tasks import Schedule
from ltgate.network import GRID, Layer, Network

NAME = "event"
BLOCK_STEPS = 256
SLICE_IMAGES = 32

# One row per layer: geometry, and where its part begins in each of the flat arrays.
# A dense layer is a convolution whose kernel covers its whole input.
LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "stride", "padding", "kernel_height", "kernel_width",
            "in_height", "in_width", "in_blocks", "in_shift", "in_unit",
            "height", "width", "channels", "blocks", "shift", "row", "unit",
            "membrane", "weights", "theta", "gate", "counts", "crossings", "raster", "update", "trace",
        )
    ]
)  # fmt: skip


def available(device: str) -> bool:
    """CPUs only."""
    return device == "cpu"


@njit(nogil=True, cache=True)
def _scatter(events, start, stop, shift, rows, base, row, target):
    """target[step] += rows[channel] for each event; ``row`` elements each, at rows[base:]."""
    mask = (1 << shift) - 1
    if row == 64:
        for k in range(start, stop):
            event = np.intp(events[k])
            to, source = (event >> shift) * 64, base + (event & mask) * 64
            store(target, to, load64(target, to) + load64(rows, source))
    elif row == 32:
        for k in range(start, stop):
            event = np.intp(events[k])
            to, source = (event >> shift) * 32, base + (event & mask) * 32
            store(target, to, load32(target, to) + load32(rows, source))
    else:
        for k in range(start, stop):
            event = np.intp(events[k])
            to, source = (event >> shift) * 16, base + (event & mask) * 16
            store(target, to, load16(target, to) + load16(rows, source))


@njit(nogil=True, cache=True)
def _correlate(events, start, stop, shift, traces, row, update, base):
    """update[channel] += traces[step] for each event: :func:`_scatter` the other way round."""
    mask = (1 << shift) - 1
    if row == 64:
        for k in range(start, stop):
            event = np.intp(events[k])
            to, source = base + (event & mask) * 64, (event >> shift) * 64
            store(update, to, load64(update, to) + load64(traces, source))
    elif row == 32:
        for k in range(start, stop):
            event = np.intp(events[k])
            to, source = base + (event & mask) * 32, (event >> shift) * 32
            store(update, to, load32(update, to) + load32(traces, source))
    else:
        for k in range(start, stop):
            event = np.intp(events[k])
            to, source = base + (event & mask) * 16, (event >> shift) * 16
            store(update, to, load16(update, to) + load16(traces, source))


@njit(nogil=True, cache=True)
def _scan(
    first, two, blend, subtract, steps, half, width, constant, drive, current, membrane, at,
    theta, theta_at, gate, gate_at, decay, gain, bits, counted, crossings,
):  # fmt: skip
    """Run sixteen neurons of a unit through the block; fills ``bits`` and adds to the counts."""
    row = 2 * width if two else width
    halves = width >> 4
    lane = half * 16
    fast, slow = at + lane, at + lane + width
    v0 = load16(membrane, fast)
    theta0 = load16(theta, theta_at + lane)
    decay0, gain0 = splat16(decay[0]), splat16(gain[0])
    count = load16(counted, lane)
    crossed0 = load16(crossings, theta_at + lane)
    v1, theta1, decay1, gain1, crossed1 = v0, theta0, decay0, gain0, crossed0
    if two:
        v1 = load16(membrane, slow)
        theta1 = load16(theta, theta_at + lane + width)
        decay1, gain1 = splat16(decay[1]), splat16(gain[1])
        crossed1 = load16(crossings, theta_at + lane + width)
    gamma, rest = v0, v0
    if blend:
        gamma = load16(gate, gate_at + lane)
        rest = splat16(np.float32(1)) - gamma
    charge0, charge1 = v0, v0
    last = np.float32(0)
    for t in range(steps):
        if first:
            if t == 0 or drive[t] != last:
                last = drive[t]
                charge0 = splat16(last) * load16(constant, lane) * gain0
                if two:
                    charge1 = splat16(last) * load16(constant, lane + width) * gain1
        else:
            charge0 = to_float(load16(current, t * row + lane)) * gain0
            if two:
                charge1 = to_float(load16(current, t * row + lane + width)) * gain1
        v0 = v0 * decay0 + charge0
        cross0 = v0 >= theta0
        cross1 = cross0
        spike = cross0
        reset0, reset1 = cross0, cross0
        if two:
            v1 = v1 * decay1 + charge1
            cross1 = v1 >= theta1
            if blend:
                spike = gamma * v0 + rest * v1 >= theta0
                reset0, reset1 = spike, spike
            else:
                spike = cross0 | cross1
                reset1 = cross1
            crossed1 = crossed1 + to_int(cross1)
        crossed0 = crossed0 + to_int(cross0)
        count = count + to_int(spike)
        bits[t * halves + half] = to_bits(spike)
        if subtract:
            v0 = select(reset0, v0 - theta0, v0)
            if two:
                v1 = select(reset1, v1 - theta1, v1)
        else:
            v0 = select(reset0, v0 - v0, v0)
            if two:
                v1 = select(reset1, v1 - v1, v1)
    store(membrane, fast, v0)
    store(counted, lane, count)
    store(crossings, theta_at + lane, crossed0)
    if two:
        store(membrane, slow, v1)
        store(crossings, theta_at + lane + width, crossed1)


@njit(nogil=True, cache=True)
def _list(words, size, events, count):
    """Append the positions of all set bits; returns the new length."""
    for k in range(size):
        word = words[k]
        while word:
            events[count] = k * 64 + trailing_zeros(word)
            count += 1
            word &= word - np.uint64(1)
    return count


@njit(nogil=True, cache=True)
def _post_traces(events, start, stop, steps, shift, decays, traces):
    """p_c[t] = post[t] + decay_c p_c[t+1] of one unit, [steps, c, width]."""
    width = 1 << shift
    row = width * decays.size
    traces[: steps * row] = 0
    for k in range(start, stop):
        event = np.intp(events[k])
        for c in range(decays.size):
            traces[(event >> shift) * row + c * width + (event & (width - 1))] = 1
    for c in range(decays.size):
        decay = splat16(decays[c])
        for lane in range(c * width, (c + 1) * width, 16):
            trace = load16(traces, (steps - 1) * row + lane)
            for t in range(steps - 2, -1, -1):
                trace = load16(traces, t * row + lane) + decay * trace
                store(traces, t * row + lane, trace)


@njit(nogil=True, cache=True)
def _carry(trace, at, width, decays, traces, row, update, base):
    """The part of earlier blocks: update[channel] += trace[channel] decay p[0], per compartment."""
    post = row // decays.size
    for channel in range(width):
        for c in range(decays.size):
            factor = trace[at + c * width + channel] * decays[c]
            if factor != 0:
                weight = splat16(np.float32(factor))
                for lane in range(c * post, (c + 1) * post, 16):
                    to = base + channel * row + lane
                    store(update, to, load16(update, to) + weight * load16(traces, lane))


@njit(nogil=True, cache=True)
def _run(
    table, weights, theta, gate, decay, gain, scaled, drive, blend, subtract, begin, size, image,
    current, constant, bits, words, counted, membrane, alive, events, starts,
    counts, crossings, raster, raster_step, raster_at,
    decays, response, traces, trace, update,
):  # fmt: skip
    """All layers of one image through the steps from ``begin``."""
    two = decay.size == 2
    learning = decays.size > 0
    found = 0
    for index in range(table.size):
        layer = table[index]
        first = index == 0
        width, row = 1 << layer.shift, layer.row
        halves = width >> 4
        area = layer.height * layer.width
        quantum = size * width // 16
        for place in range(area):
            top = place // layer.width * layer.stride - layer.padding
            left = place % layer.width * layer.stride - layer.padding
            low_y, high_y = max(top, 0), min(top + layer.kernel_height, layer.in_height)
            low_x, high_x = max(left, 0), min(left + layer.kernel_width, layer.in_width)
            for part in range(layer.blocks):
                unit = layer.unit + place * layer.blocks + part
                starts[unit] = found
                kernel = part * layer.kernel_height
                awake = alive[unit] != 0
                if first:
                    constant[:row] = 0
                    for y in range(low_y, high_y):
                        for x in range(low_x, high_x):
                            pixel = image[y * layer.in_width + x]
                            if pixel:
                                awake = True
                                tap = (kernel + y - top) * layer.kernel_width + x - left
                                base = layer.weights + tap * row
                                value = splat16(np.float32(pixel) * np.float32(2.0**-18))
                                for lane in range(0, row, 16):
                                    term = value * to_float(load16(weights, base + lane))
                                    store(constant, lane, load16(constant, lane) + term)
                else:
                    current[: size * row] = 0
                    for y in range(low_y, high_y):
                        for x in range(low_x, high_x):
                            tap = (kernel + y - top) * layer.kernel_width + x - left
                            source = (y * layer.in_width + x) * layer.in_blocks
                            for group in range(layer.in_blocks):
                                below = layer.in_unit + source + group
                                start, stop = starts[below], starts[below + 1]
                                if start < stop:
                                    awake = True
                                    tile = (tap * layer.in_blocks + group) << layer.in_shift
                                    _scatter(
                                        events, start, stop, layer.in_shift, weights,
                                        layer.weights + tile * row, row, current,
                                    )  # fmt: skip
                if not awake:
                    continue
                alive[unit] = 1
                counted[:width] = 0
                at = layer.membrane + (place * layer.blocks + part) * row
                theta_at = layer.theta + part * row
                gate_at = layer.gate + part * width
                words[size * width // 64] = 0
                for half in range(halves):
                    _scan(
                        first, two, blend, subtract, size, half, width, constant,
                        drive[begin:], current, membrane, at, theta, theta_at, gate, gate_at,
                        decay, gain if first else scaled, bits, counted, crossings,
                    )  # fmt: skip
                for q in range(quantum, (quantum + 3) // 4 * 4):
                    bits[q] = 0
                found = _list(words, (quantum + 3) // 4, events, found)
                channel = part * width
                for lane in range(min(width, layer.channels - channel)):
                    counts[layer.counts + (channel + lane) * area + place] += counted[lane]
                if layer.raster >= 0:
                    for k in range(starts[unit], found):
                        event = np.intp(events[k])
                        t = begin + (event >> layer.shift)
                        lane = event & (width - 1)
                        raster[
                            layer.raster + t * raster_step * layer.channels * area
                            + (raster_at * layer.channels + channel + lane) * area + place
                        ] = 1  # fmt: skip
                if learning and layer.update >= 0 and starts[unit] < found:
                    change = width * decays.size
                    if first:
                        traces[:change] = 0
                        for k in range(starts[unit], found):
                            event = np.intp(events[k])
                            for c in range(decays.size):
                                traces[c * width + (event & (width - 1))] += response[
                                    c, begin + (event >> layer.shift)
                                ]
                        for y in range(low_y, high_y):
                            for x in range(low_x, high_x):
                                pixel = image[y * layer.in_width + x]
                                if pixel:
                                    tap = (kernel + y - top) * layer.kernel_width + x - left
                                    base = layer.update + tap * change
                                    value = splat16(np.float32(pixel) * np.float32(2.0**-8))
                                    for lane in range(0, change, 16):
                                        term = value * load16(traces, lane)
                                        to = base + lane
                                        store(update, to, load16(update, to) + term)
                        continue
                    _post_traces(
                        events, starts[unit], found, size, layer.shift, decays, traces
                    )
                    for y in range(low_y, high_y):
                        for x in range(low_x, high_x):
                            tap = (kernel + y - top) * layer.kernel_width + x - left
                            source = (y * layer.in_width + x) * layer.in_blocks
                            for group in range(layer.in_blocks):
                                below = source + group
                                tile = (tap * layer.in_blocks + group) << layer.in_shift
                                base = layer.update + tile * change
                                if begin:
                                    in_width = 1 << layer.in_shift
                                    _carry(
                                        trace, layer.trace + below * in_width * decays.size,
                                        in_width, decays, traces, change, update, base,
                                    )  # fmt: skip
                                below += layer.in_unit
                                _correlate(
                                    events, starts[below], starts[below + 1], layer.in_shift,
                                    traces, change, update, base,
                                )  # fmt: skip
        starts[layer.unit + area * layer.blocks] = found


@njit(nogil=True, cache=True)
def _keep_traces(table, size, events, starts, decays, trace):
    """Bring the presynaptic traces [unit, c, width] to the end of a block of ``size`` steps."""
    for index in range(1, table.size):
        layer = table[index]
        width = 1 << layer.in_shift
        for unit in range(layer.in_height * layer.in_width * layer.in_blocks):
            for c in range(decays.size):
                at = layer.trace + (unit * decays.size + c) * width
                trace[at : at + width] *= np.float32(decays[c] ** size)
                below = layer.in_unit + unit
                for k in range(starts[below], starts[below + 1]):
                    event = np.intp(events[k])
                    age = size - 1 - (event >> layer.in_shift)
                    trace[at + (event & (width - 1))] += decays[c] ** age


@njit(nogil=True, cache=True)
def _update_dense(table, index, part, size, events, starts, origin, decays, traces, trace, update):
    """Add one image's block to the update of 32 neurons of a dense layer.

    ``starts`` begins at unit ``origin``; ``trace`` is empty in an image's first block.
    """
    layer = table[index]
    unit = layer.unit + part - origin
    if starts[unit] == starts[unit + 1]:
        return
    row = decays.size << layer.shift
    width = 1 << layer.in_shift
    _post_traces(events, starts[unit], starts[unit + 1], size, layer.shift, decays, traces)
    inputs = layer.in_height * layer.in_width * layer.in_blocks
    for source in range(inputs):
        base = layer.update + (part * inputs + source) * width * row
        if trace.size:
            at = layer.trace + source * width * decays.size
            _carry(trace, at, width, decays, traces, row, update, base)
        below = layer.in_unit + source - origin
        _correlate(
            events, starts[below], starts[below + 1], layer.in_shift, traces, row, update, base
        )


def _aligned(size: int, dtype: type) -> np.ndarray:
    """Uninitialised memory that starts at a cache line, which halves the cost of a row."""
    memory = np.empty(size * np.dtype(dtype).itemsize + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][: size * np.dtype(dtype).itemsize].view(dtype)


class _Plan:
    """A network laid out for the kernels: the layer table and flat arrays of all layers."""

    def __init__(self, network: Network) -> None:
        dynamics = network.dynamics
        compartments = dynamics.compartments
        self.layers = network.layers
        self.table = table = np.zeros(len(network.layers), LAYER)
        ends = dict.fromkeys(("unit", "membrane", "weights", "theta", "gate", "counts"), 0)
        for entry, layer in zip(table, network.layers, strict=True):
            channels, height, width = layer.out_shape
            entry["in_height"], entry["in_width"] = layer.in_shape[1:]
            entry["height"], entry["width"], entry["channels"] = height, width, channels
            entry["shift"] = 4 if channels <= 16 else 5
            entry["blocks"] = -(-channels // (1 << entry["shift"]))
            entry["row"] = compartments << entry["shift"]
            entry["in_blocks"] = 1
            if layer.is_conv:
                entry["stride"], entry["padding"] = layer.stride, 1
                entry["kernel_height"] = entry["kernel_width"] = 3
            else:
                entry["stride"] = 1
                entry["kernel_height"], entry["kernel_width"] = layer.in_shape[1:]
            for name, end in ends.items():
                entry[name] = end
            units = height * width * entry["blocks"]
            ends["unit"] += units
            ends["membrane"] += units * entry["row"]
            ends["counts"] += layer.neurons
            ends["theta"] += entry["blocks"] * entry["row"]
            ends["gate"] += entry["blocks"] << entry["shift"]
        for before, entry in zip(table, table[1:]):
            entry["in_blocks"], entry["in_shift"] = before["blocks"], before["shift"]
            entry["in_unit"] = before["unit"]
        for entry in table:
            entry["weights"] = ends["weights"]
            ends["weights"] += self.inputs(entry) * entry["blocks"] * entry["row"]
        table["crossings"] = table["theta"]
        self.ends = ends

        integers = [layer.forward_weight / GRID for layer in network.layers]
        largest = max(
            float(part.clamp(min=0).flatten(2).sum(2).max())
            for values in integers[1:]
            for part in (values, -values)
        ) if len(integers) > 1 else 0.0
        self.dtype = np.int16 if largest < 2**15 else np.int32
        self.weights = _aligned(ends["weights"], self.dtype)
        self.theta = np.full(ends["theta"], np.inf, np.float32)
        self.gate = np.zeros(ends["gate"], np.float32)
        for entry, layer, values in zip(table, network.layers, integers, strict=True):
            shape = self.shape(entry, compartments)
            self._tensor(self.weights, entry["weights"], shape).copy_(
                self._packed(entry, layer, values)
            )
            theta = torch.from_numpy(self.theta)[entry["theta"] :][: entry["blocks"] * entry["row"]]
            theta = theta.view(entry["blocks"], compartments, -1)
            values = layer.threshold.expand(compartments, -1)
            for channel in range(layer.out_shape[0]):
                theta[channel >> entry["shift"], :, channel & ((1 << entry["shift"]) - 1)] = values[
                    :, channel
                ]
            gate = layer.forward_gate.numpy()
            self.gate[entry["gate"] :][: len(gate)] = gate

    @staticmethod
    def inputs(entry) -> int:
        """Rows of weights of a layer's block: taps times channels, padded."""
        taps = entry["kernel_height"] * entry["kernel_width"]
        return taps * entry["in_blocks"] << entry["in_shift"]

    @staticmethod
    def shape(entry, compartments: int) -> tuple[int, ...]:
        """[block, y, x, input block, input channel, compartment, channel]."""
        return tuple(
            int(extent)
            for extent in (
                entry["blocks"], entry["kernel_height"], entry["kernel_width"], entry["in_blocks"],
                1 << entry["in_shift"], compartments, 1 << entry["shift"],
            )
        )  # fmt: skip

    @staticmethod
    def _tensor(flat: np.ndarray, at: int, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(flat)[at : at + int(np.prod(shape))].view(shape)

    def _packed(self, entry, layer: Layer, values: Tensor) -> Tensor:
        blocks, height, width, in_blocks, in_width, compartments, lanes = self.shape(
            entry, values.shape[0]
        )
        channels, inputs = layer.out_shape[0], layer.in_shape[0]
        values = values.reshape(compartments, channels, inputs, height, width)
        more = (0, 0, 0, 0, 0, in_blocks * in_width - inputs, 0, blocks * lanes - channels)
        values = torch.nn.functional.pad(values, more)
        values = values.view(compartments, blocks, lanes, in_blocks, in_width, height, width)
        return values.permute(1, 5, 6, 3, 4, 0, 2)

    def unpacked(self, entry, layer: Layer, update: np.ndarray, compartments: int) -> Tensor:
        """A layer's update in the shape of its weights."""
        shape = self.shape(entry, compartments)
        values = self._tensor(update, entry["update"], shape).permute(5, 0, 6, 3, 4, 1, 2)
        values = values.flatten(3, 4).flatten(1, 2)
        values = values[:, : layer.out_shape[0], : layer.in_shape[0]]
        values = values.reshape(compartments, *layer.weight.shape[1:])
        return values.expand(layer.weight.shape).contiguous()


class _Workspace:
    """Buffers of one thread."""

    def __init__(self, plan: _Plan, steps: int, decays: int) -> None:
        row = int(plan.table["row"].max())
        lanes = 1 << int(plan.table["shift"].max())
        neurons = plan.ends["membrane"] // (plan.table["row"][0] >> plan.table["shift"][0])
        self.current = _aligned(steps * row, plan.dtype)
        self.constant = _aligned(row, np.float32)
        self.words = _aligned(steps * lanes // 64 + 2, np.uint64)
        self.bits = self.words.view(np.uint16)
        self.counted = _aligned(lanes, np.int32)
        self.membrane = _aligned(plan.ends["membrane"], np.float32)
        self.alive = np.empty(plan.ends["unit"], np.uint8)
        self.events = np.empty(int(neurons) * steps, np.uint16)
        self.starts = np.zeros(plan.ends["unit"] + 1, np.int64)
        self.crossings = _aligned(plan.ends["theta"], np.int32)
        self.traces = _aligned(steps * lanes * decays, np.float32)


def _each(function: Callable, items, threads: int) -> list:
    """[function(x) for x in items], spread over threads in the order of items."""
    if threads == 1 or len(items) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


@torch.no_grad()
def forward(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    trace_decay: np.ndarray | None = None,
    raster: tuple[str, ...] = (),
) -> Activity:
    """See :func:`ltgate.backends.forward`. Uses ``torch.get_num_threads()`` threads of its own."""
    dynamics, layers = network.dynamics, network.layers
    threads = torch.get_num_threads()
    plan = _Plan(network)
    table = plan.table
    batch, steps = len(images), len(schedule.drive)
    blocks = -(-steps // BLOCK_STEPS)
    block = -(-steps // blocks)
    pixels = np.ascontiguousarray(images.numpy()).reshape(batch, -1)
    drive = np.ascontiguousarray(schedule.drive, np.float32)
    decay, gain = dynamics.decay(schedule.dt_ms), dynamics.gain(schedule.charge_ms)
    scaled = gain * np.float32(GRID)
    blend = dynamics.output == "blend" and dynamics.compartments == 2
    subtract = dynamics.reset == "subtract"

    learning = trace_decay is not None
    decays = np.zeros(0, np.float32)
    if learning:
        decays = np.asarray(trace_decay, np.float32)
        if (decays == decays[0]).all():
            decays = decays[:1]
    response = np.zeros((len(decays), steps), np.float32)
    for t in range(steps if learning else 0):
        response[:, t] = drive[t] + (decays * response[:, t - 1] if t else 0)

    table["raster"], end = -1, 0
    for entry, layer in zip(table, layers, strict=True):
        if layer.name in raster:
            entry["raster"], end = end, end + steps * batch * layer.neurons
    rasters = np.zeros(end, np.uint8)

    counts = np.zeros((batch, plan.ends["counts"]), np.int32)
    crossings = np.zeros((batch, plan.ends["theta"]), np.int32)

    # Update: convolutions keep one sum per image, dense layers one sum, filled after all images.
    dense = [index for index, layer in enumerate(layers) if not layer.is_conv and index]
    table["update"], inner, outer, state = -1, 0, 0, 0
    for index, entry in enumerate(table):
        size = plan.inputs(entry) * int(entry["blocks"]) * len(decays) << int(entry["shift"])
        entry["trace"], state = state, state + (int(entry["in_height"] * entry["in_width"] * entry["in_blocks"]) << int(entry["in_shift"])) * len(decays)
        if index in dense:
            entry["update"], outer = outer, outer + size
        else:
            entry["update"], inner = inner, inner + size
    origin = int(table["in_unit"][dense[0]]) if dense else 0
    images_at_once = max(1, SLICE_IMAGES // blocks) if learning else max(batch, 1)
    slots = np.zeros((min(images_at_once, batch) if learning else 1, inner), np.float32)
    sums = np.zeros(inner, np.float32)
    total = _aligned(outer, np.float32)
    total[:] = 0
    inline = table.copy()
    if dense:
        inline["update"][dense] = -1
    lively = not bool((plan.theta > 0).all())
    spare = [_Workspace(plan, block, max(len(decays), 1)) for _ in range(threads)]

    def show(b: int) -> list:
        work = spare.pop()
        slot = slots[b % len(slots)]
        slot[:] = 0
        work.membrane[:] = 0
        work.alive[:] = lively
        trace = np.zeros(state if blocks > 1 else 0, np.float32)
        tape = []
        for begin in range(0, steps, block):
            size = min(block, steps - begin)
            _run(
                inline, plan.weights, plan.theta, plan.gate, decay, gain, scaled, drive, blend, subtract,
                begin, size, pixels[b], work.current, work.constant, work.bits, work.words,
                work.counted, work.membrane, work.alive, work.events, work.starts, counts[b],
                crossings[b], rasters, batch, b, decays, response, work.traces, trace, slot,
            )  # fmt: skip
            if learning and dense:
                first = work.starts[origin]
                tape.append((
                    size, work.events[first : work.starts[-1]].copy(),
                    work.starts[origin:] - first, trace.copy() if begin else trace[:0],
                ))  # fmt: skip
            if learning and begin + size < steps:
                _keep_traces(table, size, work.events, work.starts, decays, trace)
        spare.append(work)
        return tape

    def learn(item: tuple[int, int]) -> None:
        work = spare.pop()
        for tape in tapes:
            for size, events, starts, trace in tape:
                _update_dense(
                    table, *item, size, events, starts, origin, decays, work.traces, trace, total
                )
        spare.append(work)

    for begin in range(0, batch, images_at_once):
        shown = range(begin, min(begin + images_at_once, batch))
        tapes = _each(show, shown, threads)
        if learning:
            for b in shown:
                sums += slots[b % len(slots)]
            parts = [(index, part) for index in dense for part in range(table["blocks"][index])]
            _each(learn, parts, threads)

    activity = Activity(steps=steps)
    for index, (entry, layer) in enumerate(zip(table, layers, strict=True)):
        own = counts[:, entry["counts"] : entry["counts"] + layer.neurons]
        activity.counts[layer.name] = torch.from_numpy(own).reshape(batch, *layer.out_shape).clone()
        own = crossings[:, entry["theta"] : entry["theta"] + entry["blocks"] * entry["row"]]
        own = own.reshape(batch, entry["blocks"], dynamics.compartments, -1).swapaxes(1, 2)
        own = own.reshape(batch, dynamics.compartments, -1)[:, :, : layer.out_shape[0]]
        activity.crossings[layer.name] = torch.from_numpy(own.astype(np.int64))
        if learning:
            values = total if index in dense else sums
            activity.updates[layer.name] = plan.unpacked(entry, layer, values, len(decays))
        if layer.name in raster:
            own = rasters[entry["raster"] :][: steps * batch * layer.neurons]
            activity.rasters[layer.name] = torch.from_numpy(own).view(
                steps, batch, *layer.out_shape
            )
    return activity
