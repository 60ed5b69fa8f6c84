"""Compiled kernels of the event-driven backend; see :mod:`ltgate.backends.event` for the idea.

All arrays are flat and all indices are computed: the layer's record says where its part begins.

The arithmetic of the membranes is that of their type, chosen when a kernel is compiled: float32 as
in :mod:`ltgate.neurons`, or the chip's integers (:mod:`ltgate.loihi.quantnet`), held in float64.
Every product of those stays below 2^53, so it is exact, and rounding is one instruction.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ltgate.backends.simd import (
    are_doubles,
    floor,
    from_bits,
    load8,
    load16,
    load32,
    load64,
    load_word,
    magnitude,
    population,
    select,
    splat8,
    splat16,
    store,
    to_bits,
    to_float,
    to_short,
    trunc,
    widen,
)
from ltgate.network import GRID, LARGEST
from ltgate.timescale import LOWEST
from ltgate.timescale import UNIT as POWER_UNIT

UNIT = 32

# A unit is the neurons of one position in a block of 32 channels. Its row, for two compartments:
#
#   compartment   |            fast             |            slow             |
#   channel       | 0 ....... 15 | 16 ...... 31 | 0 ....... 15 | 16 ...... 31 |    of the block
#   lane          | 0 ....... 15 | 16 ...... 31 | 32 ...... 47 | 48 ...... 63 |
#                   one register   one register ...                                of 16 lanes
#
#   weights       layer [ block [ y, x, input channel [ row ]]]      int16 or int32
#   theta         layer [ block [ row ]]          gate      layer [ block [ 32 ]]
#   membrane      layer [ y, x, block [ row ]]    current   step [ row ]          one unit's
#   update        layer [ decay, block [ y, x, input channel [ 32 ]]]
#
# Spikes of a layer are a plane of 16-bit words; a word is 16 channels, bit i of it channel i:
#
#   plane         | strip y = 0            | strip y = 1            | ...
#   strip         | step 0 | step 1 | ...  | step 0 | step 1 | ...  |
#   step          | silent | x = 0 | x = 1 | ... | x = width - 1 | silent |      ``pitch`` words
#   x             | channels 0-15 | 16-31 | ...                                  ``pixel`` words
#
# The bits of one row of a receptive field at one step therefore lie side by side, and the number of
# a bit, counted over the field's rows, is the number of its row of weights.

# One record per layer: geometry, then where its part begins in the flat arrays. A dense layer is a
# convolution whose kernel covers its whole input; ``dense`` is its number, or -1. ``rows`` of
# weights lead to a unit; ``in_...`` are of the layer below.
_FIELDS = (
    *("stride", "padding", "kernel_height", "kernel_width", "in_channels", "in_height", "in_width"),
    *("in_plane", "in_pixel", "in_pitch", "in_strip", "plane", "pixel", "pitch", "strip"),
    *("height", "width", "channels", "blocks", "rows", "dense"),
    *("unit", "weights", "theta", "gate", "counts", "raster", "trace", "update"),
)
LAYER = np.dtype([(name, np.int64) for name in _FIELDS])

# For each byte, the places of its set bits.
_PLACES = np.zeros((256, 8), np.uint8)
for _byte in range(256):
    _set = [bit for bit in range(8) if _byte >> bit & 1]
    _PLACES[_byte, : len(_set)] = _set
_PLACES = _PLACES.ravel()


class Model(NamedTuple):
    """The network for the kernels; all arrays flat.

    Attributes:
        layers: One ``LAYER`` record per layer.
        weights: Per layer [block, y, x, input channel, C, 32], units of the grid.
        theta: Per layer [block, C, 32], infinite where there is no neuron.
        gate: Per layer [block, 32], gamma.
        decay: a_c, [C].
        gain: Per layer [C]: the membrane's units in one of the summed weights.
        drive: [T].
        frames: [T], the frame of a stream that starts in each step, or -1; empty for still images.
        limit: [1], where the chip's membranes saturate.
        target: Per layer, the sum that a layer's gate compares with (:mod:`ltgate.timescale`).
        follows: 0: nothing; 1: each neuron's gate, 2: the layer's follows the sample; ``gate`` then
            holds the set points.
        blend: Whether one spike resets both of two compartments.
        subtract: Whether a reset takes off the threshold.
    """

    layers: np.ndarray
    weights: np.ndarray
    theta: np.ndarray
    gate: np.ndarray
    decay: np.ndarray
    gain: np.ndarray
    drive: np.ndarray
    frames: np.ndarray
    limit: np.ndarray
    target: np.ndarray
    follows: int
    blend: bool
    subtract: bool


class Rule(NamedTuple):
    """What learning needs: D decays (none: no learning) and the first layer's trace of a drive."""

    decays: np.ndarray
    response: np.ndarray


class Scratch(NamedTuple):
    """Working memory of one thread.

    Attributes:
        current: Of one unit, [step, C, 32], units of the grid.
        constant: Of one unit of the first layer at a drive of 1, [C, 32].
        tally: Spikes and crossings of one unit in a block, [1 + C, 32].
        membrane: [unit, C, 32].
        awake: Per unit, whether it had input; until then its membranes are zero, if unset.
        spikes: The planes of all layers.
        rows: Row numbers of a receptive field's spikes, step by step.
        ends: Where the rows of each step end.
        post: Post traces of one unit, [step, 32].
        gates: Weights of one unit's, or of a layer's membranes, [step, C, 32].
        trace: Traces without resets, [unit, C, 32], and ``power``, their summed squares.
        total: Per layer [C], the summed squares of all its traces, in whole multiples of a unit.
    """

    current: np.ndarray
    constant: np.ndarray
    tally: np.ndarray
    membrane: np.ndarray
    awake: np.ndarray
    spikes: np.ndarray
    rows: np.ndarray
    ends: np.ndarray
    post: np.ndarray
    gates: np.ndarray
    trace: np.ndarray
    power: np.ndarray
    total: np.ndarray


class Record(NamedTuple):
    """Where results go: counts and rasters of all images; crossings, update and peaks of this one.

    ``peaks``: [layers, C, 32], the largest |v| of a chip's membranes before it was clipped.
    """

    counts: np.ndarray
    crossings: np.ndarray
    rasters: np.ndarray
    update: np.ndarray
    peaks: np.ndarray


class Tape(NamedTuple):
    """What the update of a dense layer needs of N blocks, of different images or times.

    Attributes:
        steps: Length of each block.
        rows: Its inputs' spikes, as in :class:`Scratch`, block after block.
        starts: Where the rows of a block begin.
        ends: [N, steps], as in :class:`Scratch`.
        spikes: [N, strip], its plane.
        trace: [N, D, input], the presynaptic traces at the block's start, flat; or [N, 0] if zero.
    """

    steps: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    spikes: np.ndarray
    trace: np.ndarray


# Kernels own no memory: without reference counts (_nrt) a call costs 10 ns instead of 450.
_kernel = njit(nogil=True, cache=True, _nrt=False)
_inline = njit(nogil=True, cache=True, _nrt=False, forceinline=True)


@_inline
def _window(layer, place):
    """Corner of a position's receptive field, and the part of it inside the input."""
    top = place // layer.width * layer.stride - layer.padding
    left = place % layer.width * layer.stride - layer.padding
    low_y, high_y = max(top, 0), min(top + layer.kernel_height, layer.in_height)
    low_x, high_x = max(left, 0), min(left + layer.kernel_width, layer.in_width)
    return top, left, low_y, high_y, low_x, high_x


@_inline
def _row(layer, part, y, x, channel):
    """Row of weights of the first layer from an input at (y, x) of the kernel to a unit."""
    tap = (part * layer.kernel_height + y) * layer.kernel_width + x
    return tap * layer.in_channels + channel


@_kernel
def _play(layer, frames, stream, begin, steps, spikes):
    """Write a block of a stream [frame, channel, y, x] of events into the first layer's input."""
    words = layer.in_pixel
    for t in range(steps):
        frame = frames[begin + t]
        for y in range(layer.in_height):
            at = layer.in_plane + y * layer.in_strip + t * layer.in_pitch + words
            spikes[at : at + layer.in_width * words] = 0
            if frame < 0:
                continue
            for channel in range(layer.in_channels):
                row = (frame * layer.in_channels + channel) * layer.in_height + y
                bit = np.uint16(1 << (channel & 15))
                for x in range(layer.in_width):
                    if stream[row * layer.in_width + x]:
                        spikes[at + x * words + (channel >> 4)] |= bit


@_kernel
def _collect(layer, window, steps, spikes, rows, ends):
    """List the rows of weights of all spikes in a receptive field, step by step."""
    top, left, low_y, high_y, _, _ = window
    bits = layer.kernel_width * layer.in_pixel * 16
    eight = splat8(rows.dtype.type(8))
    count = 0
    for t in range(steps):
        for y in range(low_y, high_y):
            at = layer.in_plane + y * layer.in_strip + t * layer.in_pitch
            at += (left + 1) * layer.in_pixel
            for begin in range(0, bits, 64):
                word = load_word(spikes, at + begin // 16)
                if bits - begin < 64:
                    word &= (np.uint64(1) << np.uint64(bits - begin)) - np.uint64(1)
                row = splat8(rows.dtype.type((y - top) * bits + begin))
                while word:
                    byte = word & np.uint64(255)
                    places = load8(_PLACES, np.intp(byte) * 8)
                    store(rows, count, widen(places, rows[0]) + row)
                    count += np.intp(population(byte))
                    row = row + eight
                    word >>= np.uint64(8)
        ends[t] = count
    return count


@_kernel
def _gather(rows, ends, steps, weights, base, target, two):
    """target[t] = sum of the step's rows of weights; those of the unit begin at ``base``."""
    k = 0
    if two:
        none = load64(target, 0) - load64(target, 0)
        for t in range(steps):
            total = none
            while k < ends[t]:
                total = total + load64(weights, base + np.intp(rows[k]) * 64)
                k += 1
            store(target, t * 64, total)
    else:
        nothing = load32(target, 0) - load32(target, 0)
        for t in range(steps):
            half = nothing
            while k < ends[t]:
                half = half + load32(weights, base + np.intp(rows[k]) * 32)
                k += 1
            store(target, t * 32, half)


@_inline
def _larger(left, right):
    return select(left >= right, left, right)


@_inline
def _advance(chip, v, decay, charge, limit, peak):
    """a v + charge and the largest |v| so far; on the chip, rounded and clipped to +-limit."""
    v = v * decay
    if chip:
        v = trunc(v) + floor(charge)
        peak = _larger(magnitude(v), peak)
        low = limit - (limit + limit)
        v = select(v >= limit, limit, _larger(v, low))
    else:
        v = v + charge
    return v, peak


@_inline
def _nearness(ratio):
    """1 / max(r, 1 / r)^3 of :func:`ltgate.timescale.closeness`."""
    kind = type(ratio)
    ratio = min(max(ratio, kind(LOWEST)), kind(1 / LOWEST))
    far = max(ratio, kind(1) / ratio)
    return kind(1) / (far * far * far)


@_kernel
def _follow_unit(model, number, scratch, unit, part_gate, begin, steps):
    """Fill ``gates`` with the weights of one unit's membranes, each neuron's own."""
    gain = number * 2
    for lane in range(UNIT):
        fast = unit * 2 * UNIT + lane
        slow = fast + UNIT
        e0, e1 = scratch.trace[fast], scratch.trace[slow]
        q0, q1 = scratch.power[fast], scratch.power[slow]
        for t in range(steps):
            e0 = e0 * model.decay[0]
            e0 = e0 + np.float32(scratch.current[t * 64 + lane]) * model.gain[gain]
            e1 = e1 * model.decay[1]
            e1 = e1 + np.float32(scratch.current[t * 64 + 32 + lane]) * model.gain[gain + 1]
            q0 = q0 + e0 * e0
            q1 = q1 + e1 * e1
            reference = np.float32(begin + t + 1) * model.gate[part_gate + lane]
            near0, near1 = _nearness(q0 / reference), _nearness(q1 / reference)
            scratch.gates[t * 64 + lane] = near0 / (near0 + near1)
            scratch.gates[t * 64 + 32 + lane] = near1 / (near0 + near1)
        scratch.trace[fast], scratch.trace[slow] = e0, e1
        scratch.power[fast], scratch.power[slow] = q0, q1


@_kernel
def _add_power(model, number, scratch, unit, steps, sums):
    """Advance a unit's traces through a block; add their squares to ``sums`` [step, C]."""
    gain = number * 2
    for c in range(2):
        decay, factor = model.decay[c], model.gain[gain + c]
        at = (unit * 2 + c) * UNIT
        for t in range(steps):
            total = 0.0
            for lane in range(UNIT):
                now = scratch.trace[at + lane] * decay
                now = now + np.float32(scratch.current[t * 64 + c * 32 + lane]) * factor
                scratch.trace[at + lane] = now
                total += np.rint(np.float64(now) * np.float64(now) * POWER_UNIT)
            sums[t * 2 + c] += total


@_kernel
def _follow_layer(model, layer, number, scratch, begin, steps):
    """Fill ``gates`` with the weights of a layer's membranes, from the traces of all its units."""
    sums = scratch.power
    sums[: steps * 2] = 0
    for place in range(layer.height * layer.width):
        window = _window(layer, place)
        arriving = _collect(layer, window, steps, scratch.spikes, scratch.rows, scratch.ends)
        for part in range(layer.blocks):
            unit = layer.unit + place * layer.blocks + part
            base = layer.weights + part * layer.rows * 64
            rest = scratch.trace[unit * 64 : unit * 64 + 64]
            if arriving or rest.any():
                _gather(
                    scratch.rows, scratch.ends, steps, model.weights, base, scratch.current, True
                )
                _add_power(model, number, scratch, unit, steps, sums)
    for t in range(steps):
        reference = (begin + t + 1) * model.target[number]
        scratch.total[number * 2] += sums[t * 2]
        scratch.total[number * 2 + 1] += sums[t * 2 + 1]
        near0 = _nearness(scratch.total[number * 2] / reference)
        near1 = _nearness(scratch.total[number * 2 + 1] / reference)
        scratch.gates[t * 64 : t * 64 + 32] = np.float32(near0 / (near0 + near1))
        scratch.gates[t * 64 + 32 : t * 64 + 64] = np.float32(near1 / (near0 + near1))


@_inline
def _scan_lanes(
    first, two, blend, follow, subtract, model, scratch, peaks, number, begin, steps, lane, at,
    theta_at, gate_at, bits, pitch,
):  # fmt: skip
    """Run sixteen neurons of a unit through a block; the flags are constants of the caller."""
    row = 2 * UNIT if two else UNIT
    slow = lane + UNIT
    real = model.drive.dtype.type
    zero, one = splat16(real(0)), splat16(real(1))
    none = to_short(zero >= one)
    chip, limit = are_doubles(zero), splat16(model.limit[0])
    gains = number * model.decay.size
    v0, v1 = load16(scratch.membrane, at + lane), zero
    theta0, theta1 = load16(model.theta, theta_at + lane), zero
    decay0, decay1 = splat16(model.decay[0]), zero
    gain0, gain1 = splat16(model.gain[gains]), zero
    if two:
        v1 = load16(scratch.membrane, at + slow)
        theta1 = load16(model.theta, theta_at + slow)
        decay1, gain1 = splat16(model.decay[1]), splat16(model.gain[gains + 1])
    gamma, rest = zero, zero
    if blend and not follow:
        gamma = load16(model.gate, gate_at + lane)
        rest = one - gamma
    charge0, charge1, peak0, peak1 = zero, zero, zero, zero
    spiked, crossed0, crossed1 = none, none, none
    start = 0
    while start < steps:
        stop = steps
        if first:  # as long as the drive stays the same
            drive = model.drive[begin + start]
            stop = start + 1
            while stop < steps and model.drive[begin + stop] == drive:
                stop += 1
            charge0 = splat16(drive) * load16(scratch.constant, lane) * gain0
            if two:
                charge1 = splat16(drive) * load16(scratch.constant, slow) * gain1
        for t in range(start, stop):
            if not first:
                charge0 = to_float(load16(scratch.current, t * row + lane), real(0)) * gain0
                if two:
                    charge1 = to_float(load16(scratch.current, t * row + slow), real(0)) * gain1
            v0, peak0 = _advance(chip, v0, decay0, charge0, limit, peak0)
            cross0 = v0 >= theta0
            reset0 = cross0
            short0 = to_short(cross0)
            crossed0 = crossed0 - short0
            if two:
                v1, peak1 = _advance(chip, v1, decay1, charge1, limit, peak1)
                cross1 = v1 >= theta1
                reset1 = cross1
                short1 = to_short(cross1)
                crossed1 = crossed1 - short1
                if follow:
                    gamma = load16(scratch.gates, t * row + lane)
                    rest = load16(scratch.gates, t * row + slow)
                if blend:
                    reset0 = gamma * v0 + rest * v1 >= theta0
                    reset1 = reset0
                    short0 = to_short(reset0)
                else:
                    short0 = short0 | short1
                v1 = select(reset1, v1 - theta1 if subtract else zero, v1)
            v0 = select(reset0, v0 - theta0 if subtract else zero, v0)
            spiked = spiked - short0
            scratch.spikes[np.uint64(bits + t * pitch)] = to_bits(short0)
        start = stop
    store(scratch.membrane, at + lane, v0)
    store(scratch.tally, lane, spiked)
    store(scratch.tally, UNIT + lane, crossed0)
    if two:
        store(scratch.membrane, at + slow, v1)
        store(scratch.tally, UNIT + slow, crossed1)
    if chip:
        fast = number * row + lane
        store(peaks, fast, _larger(peak0, load16(peaks, fast)))
        if two:
            store(peaks, fast + UNIT, _larger(peak1, load16(peaks, fast + UNIT)))


@_inline
def _scan_reset(first, two, blend, follow, subtract, *rest):
    if subtract:
        _scan_lanes(first, two, blend, follow, True, *rest)
    else:
        _scan_lanes(first, two, blend, follow, False, *rest)


@_kernel
def _scan(first, two, blend, follow, *rest):
    """:func:`_scan_lanes`; every combination of the flags is a loop of its own without branches."""
    if first:
        if blend:
            _scan_reset(True, True, True, False, *rest)
        elif two:
            _scan_reset(True, True, False, False, *rest)
        else:
            _scan_reset(True, False, False, False, *rest)
    elif follow:
        _scan_reset(False, True, True, True, *rest)
    elif blend:
        _scan_reset(False, True, True, False, *rest)
    elif two:
        _scan_reset(False, True, False, False, *rest)
    else:
        _scan_reset(False, False, False, False, *rest)


@_kernel
def _constant_current(layer, model, image, window, part, constant):
    """First layer: fill ``constant`` [C, 32]; returns whether any pixel is lit."""
    top, left, low_y, high_y, low_x, high_x = window
    row = UNIT * model.decay.size
    constant[:row] = 0
    lit = False
    for channel in range(layer.in_channels):
        for y in range(low_y, high_y):
            for x in range(low_x, high_x):
                pixel = image[(channel * layer.in_height + y) * layer.in_width + x]
                if pixel:
                    lit = True
                    value = splat16(constant.dtype.type(pixel))
                    at = layer.weights + _row(layer, part, y - top, x - left, channel) * row
                    for lane in range(0, row, 16):
                        term = to_float(load16(model.weights, at + lane), constant[0])
                        store(constant, lane, load16(constant, lane) + value * term)
    return lit


@_kernel
def _update_first(layer, rule, image, window, part, spikes, bits, steps, begin, update):
    """First layer: its traces are the image times ``response``, so one outer product suffices."""
    top, left, low_y, high_y, low_x, high_x = window
    zero = splat16(np.float32(0))
    size = layer.rows * layer.blocks * UNIT
    for d in range(rule.decays.size):
        for lane in range(0, min(UNIT, layer.pixel * 16), 16):
            total = zero
            for t in range(steps):
                mask = from_bits(spikes[bits + t * layer.pitch + (lane >> 4)])
                total = total + select(mask, splat16(rule.response[d, begin + t]), zero)
            for channel in range(layer.in_channels):
                for y in range(low_y, high_y):
                    for x in range(low_x, high_x):
                        byte = image[(channel * layer.in_height + y) * layer.in_width + x]
                        pixel = splat16(np.float32(byte) / np.float32(256))
                        row = _row(layer, part, y - top, x - left, channel)
                        to = layer.update + d * size + row * UNIT + lane
                        store(update, to, load16(update, to) + pixel * total)


@_kernel
def _post_traces(layer, spikes, bits, steps, decay, post):
    """p[t] = post[t] + decay p[t+1] of one unit, [step, 32]."""
    zero, one = splat16(np.float32(0)), splat16(np.float32(1))
    factor = splat16(decay)
    low, high = zero, zero
    for t in range(steps - 1, -1, -1):
        at = bits + t * layer.pitch
        low = select(from_bits(spikes[at]), one, zero) + factor * low
        if layer.pixel > 1:
            high = select(from_bits(spikes[at + 1]), one, zero) + factor * high
        store(post, t * UNIT, low)
        store(post, t * UNIT + 16, high)


@_kernel
def _correlate(rows, ends, steps, post, update, base):
    """Add p[s] to the update's row of each presynaptic spike of step s."""
    k = 0
    for t in range(steps):
        trace = load32(post, t * UNIT)
        while k < ends[t]:
            to = base + np.intp(rows[k]) * UNIT
            store(update, to, load32(update, to) + trace)
            k += 1


@_kernel
def _carry(layer, window, trace, at, decay, post, update, base):
    """The share of earlier blocks: update[row] += trace[row] decay p[0]."""
    top, left, low_y, high_y, low_x, high_x = window
    channels = layer.in_pixel * 16
    for y in range(low_y, high_y):
        for x in range(low_x, high_x):
            source = at + (y * layer.in_width + x) * channels
            to = base + ((y - top) * layer.kernel_width + x - left) * channels * UNIT
            for channel in range(channels):
                weight = trace[source + channel] * decay
                if weight != 0:
                    factor = splat16(weight)
                    for lane in range(channel * UNIT, (channel + 1) * UNIT, 16):
                        term = factor * load16(post, lane % UNIT)
                        store(update, to + lane, load16(update, to + lane) + term)


@_kernel
def _update_unit(
    layer, rule, window, part, spikes, bits, rows, ends, steps, trace, at, post, update
):  # fmt: skip
    """Add a unit's block to the update of its layer.

    ``trace`` holds the presynaptic traces at the block's start, the layer's from ``at`` on, or
    nothing if all are zero.
    """
    neurons = layer.in_height * layer.in_width * layer.in_pixel * 16
    for d in range(rule.decays.size):
        base = layer.update + (d * layer.blocks + part) * layer.rows * UNIT
        _post_traces(layer, spikes, bits, steps, rule.decays[d], post)
        _correlate(rows, ends, steps, post, update, base)
        if trace.size:
            _carry(layer, window, trace, at + d * neurons, rule.decays[d], post, update, base)


@_kernel
def _fired(layer, part, spikes, bits, steps):
    """Whether a unit has any spike in a block."""
    for t in range(steps):
        for word in range(min(2, layer.pixel)):
            if spikes[bits + t * layer.pitch + word]:
                return True
    return False


@_kernel
def update_dense(layer, rule, part, tape, post, update):
    """Add all blocks of a tape to the update of 32 neurons of a dense layer."""
    window = _window(layer, 0)
    bits = layer.pixel + part * 2
    for k in range(tape.steps.size):
        steps = tape.steps[k]
        if _fired(layer, part, tape.spikes[k], bits, steps):
            rows = tape.rows[tape.starts[k] :]
            _update_unit(
                layer, rule, window, part, tape.spikes[k], bits, rows, tape.ends[k], steps,
                tape.trace[k], 0, post, update,
            )  # fmt: skip


@_kernel
def _silence(layer, spikes, bits, steps):
    """Clear a unit's spikes."""
    for t in range(steps):
        for word in range(min(2, layer.pixel)):
            spikes[bits + t * layer.pitch + word] = 0


@_kernel
def _count(layer, tally, record, place, part, index, images, row):
    """Add a unit's block to counts and crossings; returns whether it has any spike."""
    area = layer.height * layer.width
    fired = False
    for lane in range(min(UNIT, layer.channels - part * UNIT)):
        if tally[lane]:
            fired = True
            at = index * layer.channels + part * UNIT + lane
            record.counts[layer.counts * images + at * area + place] += tally[lane]
    for lane in range(0, row, 16):
        at = layer.theta + part * row + lane
        crossed = widen(load16(tally, UNIT + lane), record.crossings[0])
        store(record.crossings, at, load16(record.crossings, at) + crossed)
    return fired


@_kernel
def _raster(layer, spikes, bits, rasters, place, part, index, images, begin, steps):
    """Write a unit's spikes out, one byte each."""
    area = layer.height * layer.width
    for t in range(steps):
        for lane in range(min(UNIT, layer.channels - part * UNIT)):
            word = spikes[bits + t * layer.pitch + (lane >> 4)]
            at = ((begin + t) * images + index) * layer.channels + part * UNIT + lane
            rasters[layer.raster + at * area + place] = word >> (lane & 15) & 1


@_kernel
def run(
    model, rule, scratch, record, number, stop, image, index, images, begin, steps, trace
):  # fmt: skip
    """Layers ``number`` to ``stop`` of one image (``index`` of ``images``) through a block.

    The image is [channel, y, x], or a stream [frame, channel, y, x] where the model has frames.

    The block is the ``steps`` steps from ``begin``; ``trace`` as in :func:`_update_unit`. Returns
    how many spikes reached the last position of the last layer: the rows that are still listed.
    """
    two = model.decay.size == 2
    row = UNIT * model.decay.size
    spikes, rows, ends = scratch.spikes, scratch.rows, scratch.ends
    arriving = 0
    while number < stop:
        layer = model.layers[number]
        first = number == 0 and model.frames.size == 0
        if number == 0 and not first:
            _play(layer, model.frames, image, begin, steps, spikes)
        if model.follows == 2:
            _follow_layer(model, layer, number, scratch, begin, steps)
        for place in range(layer.height * layer.width):
            window = _window(layer, place)
            y, x = place // layer.width, place % layer.width
            if not first:
                arriving = _collect(layer, window, steps, spikes, rows, ends)
            for part in range(layer.blocks):
                unit = layer.unit + place * layer.blocks + part
                bits = layer.plane + y * layer.strip + (x + 1) * layer.pixel + part * 2
                if first:
                    awake = _constant_current(layer, model, image, window, part, scratch.constant)
                else:
                    awake = arriving > 0
                if not scratch.awake[unit]:
                    if not awake:
                        _silence(layer, spikes, bits, steps)
                        continue
                    scratch.awake[unit] = 1
                    scratch.membrane[unit * row : (unit + 1) * row] = 0
                    if model.follows == 1:
                        scratch.trace[unit * row : (unit + 1) * row] = 0
                        scratch.power[unit * row : (unit + 1) * row] = 0
                if not first:
                    base = layer.weights + part * layer.rows * row
                    _gather(rows, ends, steps, model.weights, base, scratch.current, two)
                if model.follows == 1:
                    at = layer.gate + part * UNIT
                    _follow_unit(model, number, scratch, unit, at, begin, steps)
                for word in range(min(2, layer.pixel)):
                    _scan(
                        first, two, model.blend, model.follows > 0, model.subtract, model, scratch,
                        record.peaks, number, begin, steps, word * 16, unit * row,
                        layer.theta + part * row, layer.gate + part * UNIT, bits + word,
                        layer.pitch,
                    )  # fmt: skip
                fired = _count(layer, scratch.tally, record, place, part, index, images, row)
                if not fired:
                    continue
                if layer.raster >= 0:
                    _raster(
                        layer, spikes, bits, record.rasters, place, part, index, images, begin,
                        steps,
                    )  # fmt: skip
                if first and rule.decays.size:
                    _update_first(
                        layer, rule, image, window, part, spikes, bits, steps, begin,
                        record.update,
                    )  # fmt: skip
                elif rule.decays.size and layer.dense < 0:
                    _update_unit(
                        layer, rule, window, part, spikes, bits, rows, ends, steps, trace,
                        layer.trace, scratch.post, record.update,
                    )  # fmt: skip
        number += 1
    return arriving


@_kernel
def keep_traces(layers, rule, spikes, steps, trace):
    """Bring the presynaptic traces [D, y, x, channel] of all layers to the end of a block."""
    for number in range(layers.size):
        layer = layers[number]
        channels = layer.in_pixel * 16  # none where still images come in
        for d in range(rule.decays.size):
            decay = splat16(rule.decays[d])
            zero, one = splat16(np.float32(0)), splat16(np.float32(1))
            for y in range(layer.in_height):
                for x in range(layer.in_width):
                    at = layer.trace + ((d * layer.in_height + y) * layer.in_width + x) * channels
                    bits = layer.in_plane + y * layer.in_strip + (x + 1) * layer.in_pixel
                    for lane in range(0, channels, 16):
                        now = load16(trace, at + lane)
                        for t in range(steps):
                            word = spikes[bits + t * layer.in_pitch + (lane >> 4)]
                            now = now * decay + select(from_bits(word), one, zero)
                        store(trace, at + lane, now)


@_kernel
def pack(layer, weight, part, packed, rounded):
    """Round a block of the weights [C, out, in * taps] to the grid and lay them out in rows.

    ``rounded`` is working memory [32, in * taps]. Returns the largest sum of a neuron's weights of
    one sign.
    """
    compartments, channels, inputs = weight.shape
    row = compartments * UNIT
    base = layer.weights + part * layer.rows * row
    taps = layer.kernel_height * layer.kernel_width
    stride = layer.rows // taps
    limit = np.float32(LARGEST / GRID)
    lanes = min(UNIT, channels - part * UNIT)
    largest = np.int32(0)
    for c in range(compartments):
        for lane in range(lanes):
            source, target = weight[c, part * UNIT + lane], rounded[lane]
            up, down = np.int32(0), np.int32(0)
            for k in range(inputs):
                scaled = np.rint(source[k] * np.float32(1 / GRID))
                value = np.int32(min(max(scaled, -limit), limit))
                target[k] = value
                up += max(value, np.int32(0))
                down -= min(value, np.int32(0))
            largest = max(largest, up, down)
        for channel in range(inputs // taps):
            for tap in range(taps):
                to = base + (tap * stride + channel) * row + c * UNIT
                for lane in range(lanes):
                    packed[to + lane] = rounded[lane, channel * taps + tap]
    return largest


@_kernel
def unpack(layer, update, part, decays, target):
    """The way back for a block of an update: rows to [C, out, in * taps].

    One decay stands for all compartments.
    """
    compartments, channels, inputs = target.shape
    taps = layer.kernel_height * layer.kernel_width
    stride = layer.rows // taps
    begin, end = part * UNIT, min((part + 1) * UNIT, channels)
    for d in range(decays):
        base = layer.update + (d * layer.blocks + part) * layer.rows * UNIT
        for some in range(0, inputs // taps, 8):  # few enough for their lines to stay in the cache
            for tap in range(taps):
                for channel in range(some, min(some + 8, inputs // taps)):
                    at = base + (tap * stride + channel) * UNIT
                    for lane in range(end - begin):
                        target[d, begin + lane, channel * taps + tap] = update[at + lane]
    for c in range(decays, compartments):
        for channel in range(begin, end):
            for k in range(inputs):
                target[c, channel, k] = target[0, channel, k]
