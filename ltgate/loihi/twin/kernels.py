"""Compiled kernels of the event-driven twin.

Spikes, rows of weights and their sums are those of :mod:`ltgate.backends.kernels`; only the neuron
differs. Membranes are integers held in float64: every product v (4096 - d) stays below 2^53, so the
arithmetic is exact, and rounding towards zero is one instruction.

Numba caches by the date of this file: after a change in ``backends/kernels.py`` or
``backends/lanes.py``, touch it.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ltgate.backends.kernels import (
    UNIT,
    _channels,
    _collect,
    _count,
    _gather,
    _inline,
    _kernel,
    _raster,
    _row,
    _silence,
    _window,
)
from ltgate.backends.lanes import (
    _conversion,
    load16,
    select,
    splat16,
    store,
    to_bits,
    to_short,
)
from ltgate.fixed_point import DECAY_ONE


class Chip(NamedTuple):
    """The network for the kernels; all arrays flat, all values integers.

    Attributes:
        layers, weights: As in :class:`ltgate.backends.kernels.Model`.
        theta: float64, per layer [block, K, 32], infinite where there is no neuron.
        gate: float64, per layer [block, 32].
        keep: float64 [K], 4096 - d.
        scale: float64, per layer [K], 2^e.
        drive: float64 [T].
        limit: float64 [1], where membranes saturate.
        blend: Whether one spike resets both of two compartments.
        subtract: Whether a reset takes off the threshold.
    """

    layers: np.ndarray
    weights: np.ndarray
    theta: np.ndarray
    gate: np.ndarray
    keep: np.ndarray
    scale: np.ndarray
    drive: np.ndarray
    limit: np.ndarray
    blend: bool
    subtract: bool


def _rounding(name: str):
    @intrinsic
    def apply(typing, value):
        def generate(context, builder, signature, arguments):
            kind = arguments[0].type
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, [kind]), f"llvm.{name}.v{kind.count}f64"
            )
            return builder.call(function, arguments)

        return value(value), generate

    return apply


_trunc, _floor = _rounding("trunc"), _rounding("floor")


@intrinsic
def _to_double(typing, value):
    """Signed integers as float64."""
    lanes, generate = _conversion("sitofp", value, types.float64)
    return lanes(value), generate


@_inline
def _clip(value, limit, low):
    return select(value >= limit, limit, select(low >= value, low, value))


@_inline
def _scan_lanes(
    first, two, blend, subtract, chip, scratch, number, peak, begin, steps, lane, at, theta_at,
    gate_at, bits, pitch,
):  # fmt: skip
    """Run sixteen neurons of a unit through a block; the flags are constants of the caller."""
    row = 2 * UNIT if two else UNIT
    compartments = 2 if two else 1
    slow = lane + UNIT
    zero = splat16(np.float64(0))
    none = to_short(zero >= splat16(np.float64(1)))
    part = splat16(np.float64(1.0 / DECAY_ONE))
    limit = splat16(chip.limit[0])
    low = splat16(-chip.limit[0])
    v0, v1 = load16(scratch.membrane, at + lane), zero
    theta0, theta1 = load16(chip.theta, theta_at + lane), zero
    keep0, keep1 = splat16(chip.keep[0]), zero
    scale0, scale1 = splat16(chip.scale[number * compartments]), zero
    if two:
        v1 = load16(scratch.membrane, at + slow)
        theta1 = load16(chip.theta, theta_at + slow)
        keep1 = splat16(chip.keep[1])
        scale1 = splat16(chip.scale[number * compartments + 1])
    gamma, rest = zero, zero
    if blend:
        gamma = load16(chip.gate, gate_at + lane)
        rest = splat16(np.float64(128)) - gamma
        theta0 = theta0 * splat16(np.float64(128))
    off0 = theta0 * splat16(np.float64(1 / 128)) if blend else theta0
    charge0, charge1 = zero, zero
    high0, high1 = zero, zero
    spiked, crossed0, crossed1 = none, none, none
    for t in range(steps):
        if first:
            drive = splat16(chip.drive[begin + t])
            charge0 = _floor(drive * load16(scratch.constant, lane) * scale0)
            if two:
                charge1 = _floor(drive * load16(scratch.constant, slow) * scale1)
        else:
            charge0 = _floor(_to_double(load16(scratch.current, t * row + lane)) * scale0)
            if two:
                charge1 = _floor(_to_double(load16(scratch.current, t * row + slow)) * scale1)
        v0 = _trunc(v0 * keep0 * part) + charge0
        high0 = select(v0 >= high0, v0, select(zero - high0 >= v0, zero - v0, high0))
        v0 = _clip(v0, limit, low)
        cross0 = v0 >= theta0
        if two:
            v1 = _trunc(v1 * keep1 * part) + charge1
            high1 = select(v1 >= high1, v1, select(zero - high1 >= v1, zero - v1, high1))
            v1 = _clip(v1, limit, low)
            cross1 = v1 >= theta1
            if blend:
                cross0 = gamma * v0 + rest * v1 >= theta0
                cross1 = cross0
            short1 = to_short(cross1)
            crossed1 = crossed1 - short1
            v1 = select(cross1, v1 - (off0 if blend else theta1) if subtract else zero, v1)
        short0 = to_short(cross0)
        crossed0 = crossed0 - short0
        v0 = select(cross0, v0 - off0 if subtract else zero, v0)
        if two:
            short0 = short0 | short1
        spiked = spiked - short0
        scratch.spikes[np.uint64(bits + t * pitch)] = to_bits(short0)
    store(scratch.membrane, at + lane, v0)
    store(scratch.tally, lane, spiked)
    store(scratch.tally, UNIT + lane, crossed0)
    store(peak, lane, select(high0 >= load16(peak, lane), high0, load16(peak, lane)))
    if two:
        store(scratch.membrane, at + slow, v1)
        store(scratch.tally, UNIT + slow, crossed1)
        store(peak, slow, select(high1 >= load16(peak, slow), high1, load16(peak, slow)))


@_inline
def _scan_reset(first, two, blend, subtract, *rest):
    if subtract:
        _scan_lanes(first, two, blend, True, *rest)
    else:
        _scan_lanes(first, two, blend, False, *rest)


@_kernel
def _scan(first, two, blend, *rest):
    """:func:`_scan_lanes`; every combination of the flags is a loop of its own without branches."""
    if first:
        if blend:
            _scan_reset(True, True, True, *rest)
        elif two:
            _scan_reset(True, True, False, *rest)
        else:
            _scan_reset(True, False, False, *rest)
    elif blend:
        _scan_reset(False, True, True, *rest)
    elif two:
        _scan_reset(False, True, False, *rest)
    else:
        _scan_reset(False, False, False, *rest)


@_kernel
def _constant_current(layer, chip, image, window, part, constant):
    """First layer: fill ``constant`` [K, 32]; returns whether any pixel is lit."""
    top, left, low_y, high_y, low_x, high_x = window
    row = UNIT * chip.keep.size
    constant[:row] = 0
    lit = False
    for channel in range(_channels(layer)):
        for y in range(low_y, high_y):
            for x in range(low_x, high_x):
                pixel = image[(channel * layer.in_height + y) * layer.in_width + x]
                if pixel:
                    lit = True
                    value = splat16(np.float64(pixel))
                    at = layer.weights + _row(layer, part, y - top, x - left, channel) * row
                    for lane in range(0, row, 16):
                        term = _to_double(load16(chip.weights, at + lane))
                        store(constant, lane, load16(constant, lane) + value * term)
    return lit


@_kernel
def run(chip, scratch, record, peaks, image, index, images, begin, steps):
    """All layers of one image (``index`` of ``images``) through the ``steps`` steps from ``begin``.

    ``peaks``: float64 [layers, K, 32], the largest |v| so far before it was clipped.
    """
    two = chip.keep.size == 2
    row = UNIT * chip.keep.size
    spikes, rows, ends = scratch.spikes, scratch.rows, scratch.ends
    arriving = 0
    for number in range(chip.layers.size):
        layer = chip.layers[number]
        first = number == 0
        peak = peaks[number * row : (number + 1) * row]
        for place in range(layer.height * layer.width):
            window = _window(layer, place)
            y, x = place // layer.width, place % layer.width
            if not first:
                arriving = _collect(layer, window, steps, spikes, rows, ends)
            for part in range(layer.blocks):
                unit = layer.unit + place * layer.blocks + part
                bits = layer.plane + y * layer.strip + (x + 1) * layer.pixel + part * 2
                if first:
                    awake = _constant_current(layer, chip, image, window, part, scratch.constant)
                else:
                    awake = arriving > 0
                if not scratch.awake[unit]:
                    if not awake:
                        _silence(layer, spikes, bits, steps)
                        continue
                    scratch.awake[unit] = 1
                    scratch.membrane[unit * row : (unit + 1) * row] = 0
                if not first:
                    base = layer.weights + part * layer.rows * row
                    _gather(rows, ends, steps, chip.weights, base, scratch.current, two)
                for word in range(min(2, layer.pixel)):
                    _scan(
                        first, two, chip.blend, chip.subtract, chip, scratch, number, peak, begin,
                        steps, word * 16, unit * row, layer.theta + part * row,
                        layer.gate + part * UNIT, bits + word, layer.pitch,
                    )  # fmt: skip
                fired = _count(layer, scratch.tally, record, place, part, index, images, row)
                if fired and layer.raster >= 0:
                    _raster(
                        layer, spikes, bits, record.rasters, place, part, index, images, begin,
                        steps,
                    )  # fmt: skip
