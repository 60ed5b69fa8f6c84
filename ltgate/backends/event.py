"""Compiled event-driven path for CPUs: synaptic work in proportion to spikes.

One image at a time: the spikes of a step are scattered through the weights into the current of the
next layer, then one pass over its neurons applies leak, current, comparison and reset.
"""

import importlib.util

import numpy as np
import torch
from torch import Tensor

from ltgate.backends import Activity
from ltgate.data.tasks import Schedule
from ltgate.network import Network

if importlib.util.find_spec("numba") is None:
    raise ImportError("the event backend needs numba")

from numba import njit

NAME = "event"


def available(device: str) -> bool:
    """CPUs only."""
    return device == "cpu"


@njit(nogil=True, cache=True)
def _scatter_conv(spikes, count, height, width, channels, stride, weights, current):
    """Add the weight rows [9, channels, row] of each spike (NHWC index) to current [h, w, row]."""
    out_height, out_width = current.shape[0], current.shape[1]
    for s in range(count):
        index = spikes[s]
        y, x, channel = index // (width * channels), index // channels % width, index % channels
        for ky in range(3):
            oy = y + 1 - ky
            if oy < 0 or oy % stride or oy // stride >= out_height:
                continue
            for kx in range(3):
                ox = x + 1 - kx
                if ox < 0 or ox % stride or ox // stride >= out_width:
                    continue
                target = current[oy // stride, ox // stride]
                row = weights[ky * 3 + kx, channel]
                for j in range(target.shape[0]):
                    target[j] += row[j]


@njit(nogil=True, cache=True)
def _advance(v, current, decay, gain, theta, gate, blend, subtract, crossings, spikes):
    """One step of all neurons, v and current [positions, C, out]; returns the number of spikes."""
    positions, compartments, channels = v.shape
    n = 0
    for p in range(positions):
        for o in range(channels):
            any_crossed = False
            for c in range(compartments):
                v[p, c, o] = v[p, c, o] * decay[c] + current[p, c, o] * gain[c]
                crossed = v[p, c, o] >= theta[c, o]
                crossings[c, o] += crossed
                any_crossed |= crossed
                if crossed and not blend:
                    v[p, c, o] = v[p, c, o] - theta[c, o] if subtract else np.float32(0)
            if blend:
                blended = gate[o] * v[p, 0, o] + (np.float32(1) - gate[o]) * v[p, 1, o]
                any_crossed = blended >= theta[0, o]
                if any_crossed:
                    for c in range(2):
                        v[p, c, o] = v[p, c, o] - theta[c, o] if subtract else np.float32(0)
            if any_crossed:
                spikes[n] = p * channels + o
                n += 1
    return n


@torch.no_grad()
def forward(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    trace_decay: np.ndarray | None = None,
    raster: tuple[str, ...] = (),
) -> Activity:
    """See :func:`ltgate.backends.forward`."""
    if trace_decay is not None:
        from ltgate.backends import portable

        return portable.forward(network, images, schedule, trace_decay, raster)
    dynamics, layers = network.dynamics, network.layers
    compartments = dynamics.compartments
    decay, gain = dynamics.decay(schedule.dt_ms), dynamics.gain(schedule.charge_ms)
    blend, subtract = dynamics.output == "blend" and compartments == 2, dynamics.reset == "subtract"
    steps, batch = len(schedule.drive), len(images)
    activity = Activity(steps=steps)
    rows, states = [], []
    for layer in layers:
        _, height, width = layer.out_shape
        activity.counts[layer.name] = torch.zeros(batch, *layer.out_shape, dtype=torch.int32)
        activity.crossings[layer.name] = torch.zeros(
            batch, compartments, layer.out_shape[0], dtype=torch.int64
        )
        if layer.name in raster:
            activity.rasters[layer.name] = torch.zeros(
                steps, batch, *layer.out_shape, dtype=torch.uint8
            )
        weight = layer.forward_weight
        if layer.is_conv:
            weight = weight.permute(3, 4, 2, 0, 1).flatten(0, 1).flatten(2)
        else:
            weight = weight.unflatten(2, layer.in_shape).permute(3, 4, 2, 0, 1).flatten(0, 2)
            weight = weight.flatten(1)
        rows.append(weight.contiguous().numpy())
        theta = layer.threshold.expand(compartments, -1).contiguous().numpy()
        states.append((theta, layer.forward_gate.numpy()))

    for b in range(batch):
        pixels = images[b].float()[None, None] / 256
        first = layers[0]
        if first.is_conv:
            constant = torch.nn.functional.conv2d(
                pixels, first.forward_weight.flatten(0, 1), stride=first.stride, padding=1
            )
        else:
            constant = (pixels.flatten(1) @ first.forward_weight.flatten(0, 1).T)[..., None, None]
        constant = constant[0].unflatten(0, (compartments, -1)).permute(2, 3, 0, 1)
        constant = constant.contiguous().numpy()
        v = [
            np.zeros((x.out_shape[1] * x.out_shape[2], compartments, x.out_shape[0]), np.float32)
            for x in layers
        ]
        crossings = [np.zeros(x.shape[1:], np.int64) for x in v]
        counts = [np.zeros(x.neurons, np.int32) for x in layers]
        lists = [np.empty(x.neurons, np.int64) for x in layers]
        for t in range(steps):
            n = 0
            for i, layer in enumerate(layers):
                channels, height, width = layer.out_shape
                if i == 0:
                    current = np.float32(schedule.drive[t]) * constant
                else:
                    current = np.zeros((height, width, compartments * channels), np.float32)
                    if layer.is_conv:
                        _, h, w = layer.in_shape
                        _scatter_conv(lists[i - 1], n, h, w, layer.in_shape[0], layer.stride,
                                      rows[i], current)
                    else:
                        current[0, 0] = rows[i][lists[i - 1][:n]].sum(0, dtype=np.float32)
                theta, gate = states[i]
                n = _advance(v[i], current.reshape(v[i].shape), decay, gain, theta, gate, blend,
                             subtract, crossings[i], lists[i])
                counts[i][lists[i][:n]] += 1
                if layer.name in raster:
                    spikes = np.zeros(layer.neurons, np.uint8)
                    spikes[lists[i][:n]] = 1
                    spikes = torch.from_numpy(spikes.reshape(height, width, channels))
                    activity.rasters[layer.name][t, b] = spikes.permute(2, 0, 1)
        for i, layer in enumerate(layers):
            channels, height, width = layer.out_shape
            counted = torch.from_numpy(counts[i].reshape(height, width, channels))
            activity.counts[layer.name][b] = counted.permute(2, 0, 1)
            activity.crossings[layer.name][b] = torch.from_numpy(crossings[i])
    return activity
