"""The network step by step in plain NumPy: slow, obvious, and what every backend must reproduce."""

import numpy as np
import torch

F32 = np.float32


def convolve(inputs: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """3x3 convolution, padding 1, by shifts: [B, in, H, W], [out, in, 3, 3] to [B, out, h, w]."""
    height, width = ((extent - 1) // stride + 1 for extent in inputs.shape[2:])
    padded = np.pad(inputs, ((0, 0), (0, 0), (1, 1), (1, 1)))
    result = np.zeros((len(inputs), len(weight), height, width), F32)
    for ky in range(3):
        for kx in range(3):
            tap = padded[
                :, :, ky : ky + stride * height : stride, kx : kx + stride * width : stride
            ]
            tap = tap[:, :, :height, :width]
            result += np.einsum("bihw,oi->bohw", tap, weight[:, :, ky, kx])
    return result


def correlate(trace: np.ndarray, post: np.ndarray, stride: int) -> np.ndarray:
    """Sum over images and positions of post x trace, in float64: [out, in, 3, 3]."""
    height, width = post.shape[2:]
    padded = np.pad(trace, ((0, 0), (0, 0), (1, 1), (1, 1)))
    result = np.zeros((post.shape[1], trace.shape[1], 3, 3))
    for ky in range(3):
        for kx in range(3):
            tap = padded[
                :, :, ky : ky + stride * height : stride, kx : kx + stride * width : stride
            ]
            tap = tap[:, :, :height, :width]
            result[:, :, ky, kx] = np.einsum("bohw,bihw->oi", post, tap, dtype=np.float64)
    return result


def forward(network, images, schedule, trace_decay=None) -> tuple[dict, dict, dict]:
    """Run ``network`` over uint8 ``images`` [B, (channels,) H, W], step by step, layer by layer.

    Or over streams [B, frames, channels, H, W] of events, whose frames start where the drive is 1.

    Returns:
        By layer name: rasters uint8 [T, B, channels, h, w], crossings int64 [B, C, channels] and,
        with ``trace_decay`` [C], updates float64 shaped like the weights.
    """
    dynamics, layers = network.dynamics, network.layers
    decay, gain = dynamics.decay(schedule.dt_ms), dynamics.gain(schedule.charge_ms)
    count, both = len(images), range(dynamics.compartments)
    images = np.asarray(images)
    streamed = images.ndim == 5
    if streamed:
        played = iter(images.swapaxes(0, 1).astype(F32))
        silence = np.zeros((count, *layers[0].in_shape), F32)
    else:
        pixels = images.reshape(count, *layers[0].in_shape).astype(F32) / F32(256)
    follows = [Follows(dynamics.follows, x, decay, gain) for x in layers]
    membranes = [[np.zeros((count, *x.out_shape), F32) for _ in both] for x in layers]
    traces = [[np.zeros((count, *x.in_shape), F32) for _ in both] for x in layers]
    rasters = {x.name: [] for x in layers}
    crossings = {x.name: np.zeros((count, len(both), x.out_shape[0]), np.int64) for x in layers}
    updates = {x.name: np.zeros(tuple(x.weight.shape)) for x in layers if trace_decay is not None}

    for drive in schedule.drive:
        still = None if streamed else F32(drive) * pixels
        inputs = still if not streamed else next(played) if drive else silence
        for index, layer in enumerate(layers):
            v, weight = membranes[index], layer.forward_weight.numpy()
            threshold = layer.threshold.numpy()[:, :, None, None]
            gate = layer.forward_gate.numpy()[:, None, None]
            crossed, currents = [], []
            first = index == 0 and not streamed
            for c in both:
                source = pixels if first else inputs
                if layer.is_conv:
                    current = convolve(source, weight[c], layer.stride)
                else:
                    current = (source.reshape(count, -1) @ weight[c].T)[:, :, None, None]
                if first:
                    current = F32(drive) * current
                currents.append(current)
                v[c] = v[c] * decay[c]
                v[c] = v[c] + current * gain[c]
                crossed.append(v[c] >= threshold[min(c, len(threshold) - 1)])
                crossings[layer.name][:, c] += crossed[c].sum((2, 3))
            if dynamics.output == "blend" and len(both) == 2:
                weights = gate, F32(1) - gate
                if dynamics.follows != "nothing":
                    weights = follows[index].step(currents)
                blended = weights[0] * v[0]
                blended = blended + weights[1] * v[1]
                spikes = blended >= threshold[0]
                resetting = [spikes, spikes]
            else:
                spikes = np.any(crossed, axis=0)
                resetting = crossed
            for c in both:
                theta = threshold[min(c, len(threshold) - 1)]
                after = v[c] - theta if dynamics.reset == "subtract" else np.zeros_like(v[c])
                v[c] = np.where(resetting[c], after, v[c])
            rasters[layer.name].append(spikes.astype(np.uint8))
            post = spikes.astype(F32)
            for c in both if trace_decay is not None else ():
                trace = traces[index][c] = traces[index][c] * F32(trace_decay[c]) + inputs
                if layer.is_conv:
                    updates[layer.name][c] += correlate(trace, post, layer.stride)
                else:
                    flat = trace.reshape(count, -1).astype(np.float64)
                    updates[layer.name][c] += post.reshape(count, -1).T @ flat
            inputs = post
    return {name: np.stack(steps) for name, steps in rasters.items()}, crossings, updates


class Follows:
    """A gate that follows the sample, of one layer, by the equations of ltgate.timescale."""

    def __init__(self, name, layer, decay, gain):
        self.pooled = name == "layer"
        self.set_point = np.maximum(layer.gate.numpy(), F32(2**-100))[:, None, None]
        self.decay, self.gain, self.steps, self.layer = decay, gain, 0, layer
        self.traces, self.powers = [F32(0), F32(0)], [0, 0]

    def step(self, currents):
        """The weights of both membranes after one more step with these currents [2][B, ...]."""
        self.steps += 1
        near = []
        for c, current in enumerate(currents):
            self.traces[c] = self.traces[c] * self.decay[c] + current * self.gain[c]
            if self.pooled:
                squares = np.rint(self.traces[c].astype(float) ** 2 * 2**16)
                self.powers[c] = self.powers[c] + squares.sum((1, 2, 3), keepdims=True)
                area = self.layer.out_shape[1] * self.layer.out_shape[2]
                point = max(np.rint(self.set_point.astype(float) * 2**16).sum(), 1) * area
                ratio = self.powers[c] / (self.steps * point)
            else:
                self.powers[c] = self.powers[c] + self.traces[c] * self.traces[c]
                ratio = self.powers[c] / (F32(self.steps) * self.set_point)
            kind = ratio.dtype.type
            ratio = np.clip(ratio, kind(1e-6), kind(1 / 1e-6))
            far = np.maximum(ratio, 1 / ratio)
            near.append(1 / (far * far * far))
        return [(one / (near[0] + near[1])).astype(F32) for one in near]


def check(activity, made, images, schedule, trace_decay=None) -> None:
    """Every spike and crossing is the reference's, with the types and shapes that callers know.

    Updates are float32 sums and may round apart.
    """
    rasters, crossings, updates = forward(made, images, schedule, trace_decay)
    assert activity.steps == len(schedule.drive)
    for layer in made.layers:
        name = layer.name
        for found, wanted, kind in (
            (activity.rasters[name], rasters[name], torch.uint8),
            (activity.counts[name], rasters[name].sum(0), torch.int32),
            (activity.crossings[name], crossings[name], torch.int64),
        ):
            assert np.array_equal(found.numpy(), wanted) and found.dtype == kind
        if trace_decay is not None:
            found, wanted = activity.updates[name].numpy(), updates[name]
            assert found.shape == tuple(layer.weight.shape) and found.dtype == F32
            np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
