"""Compiled loops over tiles: the scan, its reverse, and what spikes add up.

A *tile* holds all T steps and all neurons of one position of a layer, [T, C, width]; widths are
padded to a multiple of 16 so that every loop runs over whole vectors. Padding never spikes: its
weights are zero and its thresholds infinite. The arithmetic is that of :func:`ltgate.neurons.step`,
operation by operation, so membranes and spikes equal those of the backends.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ltgate.backends.simd import load16, lowest, select, splat16, store, to_bits, to_short

LANES = 16

# How one image lies in a thread's memory; channels of 17 to 32, so that width = 32 = 2 vectors:
#
#   tiles[n], position live[n]     C * width floats: one *row*
#       t = 0      | fast 0..15 | fast 16..31 | slow 0..15 | slow 16..31 |
#       t = 1      | fast 0..15 | fast 16..31 | slow 0..15 | slow 16..31 |
#       ...          Each loop takes 16 lanes of both compartments down (or up) all T steps, state
#                    in registers: currents -> membranes -> gradients of the currents, in place.
#
#   weight         rows shaped like a tile's; row ``(tap, channel below)`` is what one spike of that
#                  channel adds to a step of the tile that it reaches through that tap
#   update         the same rows: a step's row of gradients is added for each spike
#   upstream[n]    | 0..15 | 16..31 | for each t: the gradients of the position's spikes
#   bits           one uint16 for 16 lanes and step, t first: bit i = lane i spiked
#
#   spikes         position after position, in each ordered by step, then channel; for example
#       starts     0         3   3      5          position 1 is silent
#       when       0  4  4   |   | 1  2
#       who        7  0  9   |   | 3  3
#
# The first layer receives no spikes: its currents are ``drive[t]`` times those of the pixels. It
# keeps one tile for all positions, and makes its membranes again for the way back.


class Neuron(NamedTuple):
    """What the scan needs of a layer: float arrays [C], [C], [C, width], [width]; two flags."""

    decay: np.ndarray
    gain: np.ndarray
    theta: np.ndarray
    gate: np.ndarray
    blend: bool
    subtract: bool


class Reach(NamedTuple):
    """Which positions lead to which.

    Position p is reached from ``source[j]`` through the ``channels`` rows of weights that begin at
    ``row[j]``, for j from ``first[p]`` to ``first[p + 1]``.
    """

    first: np.ndarray
    row: np.ndarray
    source: np.ndarray
    channels: int


class Spikes(NamedTuple):
    """Spikes of a layer by position: step and channel; position p has those from ``starts[p]``."""

    when: np.ndarray
    who: np.ndarray
    starts: np.ndarray


class Source(NamedTuple):
    """What a layer receives: pixels times the drive [T], or the spikes of the one below.

    ``first`` says which; the other's arrays are not looked at. Pixels are [positions x channels].
    """

    first: bool
    pixels: np.ndarray
    drive: np.ndarray
    spikes: Spikes


@njit(nogil=True, cache=True)
def _add(source, start, target, to, length):
    """target[to:] += source[start:], flat, ``length`` elements."""
    for lane in range(0, length, LANES):
        total = load16(target, to + lane) + load16(source, start + lane)
        store(target, to + lane, total)


@njit(nogil=True, cache=True)
def _add_scaled(factor, source, start, target, to, length):
    """target[to:] += factor * source[start:], flat, ``length`` elements."""
    scale = splat16(factor)
    for lane in range(0, length, LANES):
        total = load16(target, to + lane) + scale * load16(source, start + lane)
        store(target, to + lane, total)


@njit(nogil=True, cache=True)
def _scan(tile, neuron, bits):
    """Currents become membranes before their reset, in place; spikes go to ``bits``."""
    steps, compartments, width = tile.shape
    row, two = compartments * width, compartments == 2
    for lane in range(0, width, LANES):
        theta0 = load16(neuron.theta, lane)
        theta1 = load16(neuron.theta, (compartments - 1) * width + lane)
        decay0, gain0 = splat16(neuron.decay[0]), splat16(neuron.gain[0])
        decay1, gain1 = splat16(neuron.decay[-1]), splat16(neuron.gain[-1])
        gamma = load16(neuron.gate, lane)
        rest = splat16(tile.dtype.type(1)) - gamma
        v0 = splat16(tile.dtype.type(0))
        v1 = v0
        for t in range(steps):
            at = t * row + lane
            v0 = v0 * decay0 + load16(tile, at) * gain0
            store(tile, at, v0)
            spike0 = v0 >= theta0
            spike = spike0
            if two:
                v1 = v1 * decay1 + load16(tile, at + width) * gain1
                store(tile, at + width, v1)
                spike1 = v1 >= theta1
                if neuron.blend:
                    spike0 = gamma * v0 + rest * v1 >= theta0
                    spike1 = spike0
                spike = spike0 | spike1
                v1 = select(spike1, v1 - theta1 if neuron.subtract else v1 - v1, v1)
            v0 = select(spike0, v0 - theta0 if neuron.subtract else v0 - v0, v0)
            bits[(t * width + lane) // LANES] = to_bits(to_short(spike))


@njit(nogil=True, cache=True)
def _list(bits, steps, width, spikes, found, count):
    """Append the spikes of a tile to the list of ``found``; returns its new length."""
    for t in range(steps):
        for lane in range(0, width, LANES):
            word = np.uint64(bits[(t * width + lane) // LANES])
            while word:
                channel = lane + lowest(word)
                word &= word - np.uint64(1)
                spikes.when[found], spikes.who[found] = t, channel
                count[channel] += 1
                found += 1
    return found


@njit(nogil=True, cache=True)
def _derivative(distance, slope, one):
    """1 / (1 + slope |v - theta|)^2."""
    absolute = select(distance >= one - one, distance, one - one - distance)
    root = one + slope * absolute
    return one / (root * root)


@njit(nogil=True, cache=True)
def _reverse(tile, upstream, place, neuron, slope):
    """Membranes become gradients of the currents, in place.

    ``upstream[place]`` [T, width] is the gradient of the spikes. With ``or`` it goes to the
    compartment that crossed its threshold; to both, half each, when both did or neither.
    """
    steps, compartments, width = tile.shape
    row, two = compartments * width, compartments == 2
    one, steep = splat16(tile.dtype.type(1)), splat16(tile.dtype.type(slope))
    zero, half = one - one, splat16(tile.dtype.type(0.5))
    for lane in range(0, width, LANES):
        theta0 = load16(neuron.theta, lane)
        theta1 = load16(neuron.theta, (compartments - 1) * width + lane)
        decay0, gain0 = splat16(neuron.decay[0]), splat16(neuron.gain[0])
        decay1, gain1 = splat16(neuron.decay[-1]), splat16(neuron.gain[-1])
        gamma = load16(neuron.gate, lane)
        rest = one - gamma
        g0, g1 = zero, zero
        for t in range(steps - 1, -1, -1):
            at = t * row + lane
            above = load16(upstream, (place * steps + t) * width + lane)
            v0 = load16(tile, at)
            distance0 = v0 - theta0
            spike0 = v0 >= theta0
            share0 = one
            if two:
                v1 = load16(tile, at + width)
                distance1 = v1 - theta1
                spike1 = v1 >= theta1
                if neuron.blend:
                    blended = gamma * v0 + rest * v1
                    distance0, distance1 = blended - theta0, blended - theta0
                    spike0, spike1 = blended >= theta0, blended >= theta0
                    share0, share1 = gamma, rest
                else:
                    share0 = select(spike0, select(spike1, half, one), select(spike1, zero, half))
                    share1 = one - share0
                if not neuron.subtract:
                    g1 = select(spike1, zero, g1)
                g1 = above * share1 * _derivative(distance1, steep, one) + decay1 * g1
                store(tile, at + width, g1 * gain1)
            if not neuron.subtract:
                g0 = select(spike0, zero, g0)
            g0 = above * share0 * _derivative(distance0, steep, one) + decay0 * g0
            store(tile, at, g0 * gain0)


@njit(nogil=True, cache=True)
def find_live(reach, every, below, live, slot):
    """Positions reached by a position with ``below >= 0``, or all; returns their number.

    ``live`` lists them; ``slot`` is their place in that list, -1 for the others.
    """
    found = 0
    for p in range(slot.size):
        slot[p] = -1
        reached = every
        for j in range(reach.first[p], reach.first[p + 1]):
            reached = reached or below[reach.source[j]] >= 0
        if reached:
            slot[p], live[found] = found, p
            found += 1
    return found


@njit(nogil=True, cache=True)
def _currents(source, reach, weight, p, tile):
    """The currents of position p at every step."""
    row = weight.shape[1]
    tile[:] = 0
    if source.first:  # they are constant but for the drive
        constant = np.zeros(row, tile.dtype)
        for j in range(reach.first[p], reach.first[p + 1]):
            for channel in range(reach.channels):
                pixel = source.pixels[reach.source[j] * reach.channels + channel]
                if pixel:
                    _add_scaled(pixel, weight, (reach.row[j] + channel) * row, constant, 0, row)
        for t in range(source.drive.size):
            _add_scaled(source.drive[t], constant, 0, tile, t * row, row)
        return
    for j in range(reach.first[p], reach.first[p + 1]):
        base, below = reach.row[j], reach.source[j]
        for k in range(source.spikes.starts[below], source.spikes.starts[below + 1]):
            t, channel = np.intp(source.spikes.when[k]), np.intp(source.spikes.who[k])
            _add(weight, (base + channel) * row, tile, t * row, row)


@njit(nogil=True, cache=True)
def forward(source, live, reach, weight, neuron, tiles, bits, spikes, counts):
    """A layer's spikes, and its membranes: a tile for each live position."""
    found, n = 0, 0
    counts[:] = 0
    for p in range(counts.shape[0]):
        spikes.starts[p] = found
        if n < live.size and live[n] == p:
            tile = tiles[0 if source.first else n]
            n += 1
            _currents(source, reach, weight, p, tile)
            _scan(tile, neuron, bits)
            found = _list(bits, tile.shape[0], tile.shape[2], spikes, found, counts[p])
    spikes.starts[-1] = found


@njit(nogil=True, cache=True)
def _correlate(source, reach, p, tile, update):
    """Add to the weights' gradients what position p's currents and inputs make of them."""
    row = update.shape[1]
    if source.first:
        total = np.zeros(row, tile.dtype)
        for t in range(source.drive.size):
            _add_scaled(source.drive[t], tile, t * row, total, 0, row)
        for j in range(reach.first[p], reach.first[p + 1]):
            for channel in range(reach.channels):
                pixel = source.pixels[reach.source[j] * reach.channels + channel]
                if pixel:
                    _add_scaled(pixel, total, 0, update, (reach.row[j] + channel) * row, row)
        return
    for j in range(reach.first[p], reach.first[p + 1]):
        base, below = reach.row[j], reach.source[j]
        for k in range(source.spikes.starts[below], source.spikes.starts[below + 1]):
            t, channel = np.intp(source.spikes.when[k]), np.intp(source.spikes.who[k])
            _add(tile, t * row, update, (base + channel) * row, row)


@njit(nogil=True, cache=True)
def backward(source, live, reach, weight, neuron, slope, tiles, bits, upstream, update):
    """Gradients of a layer's currents, in place of its membranes; ``update`` gets the weights'."""
    for n in range(live.size):
        tile = tiles[0 if source.first else n]
        if source.first:  # membranes made again: cheaper than kept
            _currents(source, reach, weight, live[n], tile)
            _scan(tile, neuron, bits)
        _reverse(tile, upstream, n, neuron, slope)
        _correlate(source, reach, live[n], tile, update)


@njit(nogil=True, cache=True)
def spread(products, begin, end, live, reach, slot, upstream):
    """Hand the gradients of inputs on to the spikes below.

    Args:
        products: [(end - begin) * T, rows of weights], of the live positions ``begin`` to ``end``.
        begin, end, live, reach: Where they come from and lead to.
        slot: Place in ``upstream`` of each position below, or -1.
        upstream: [live below, T, channels], added to.
    """
    _, steps, channels = upstream.shape
    length = products.shape[1]
    for n in range(begin, end):
        p = live[n]
        for j in range(reach.first[p], reach.first[p + 1]):
            place = slot[reach.source[j]]
            if place >= 0:
                for t in range(steps):
                    start = ((n - begin) * steps + t) * length + reach.row[j]
                    _add(products, start, upstream, (place * steps + t) * channels, channels)
