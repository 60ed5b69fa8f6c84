"""Plain PyTorch, on any device: time folded into the batch, one convolution a layer and chunk.

Images are cut into slices and time into chunks, so memory stays flat in T and in B. The first
layer's current does not change while an image is shown: it is computed once per image.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from ltgate import neurons, timescale
from ltgate.backends import Activity
from ltgate.data.tasks import Schedule
from ltgate.network import KERNEL, Layer, Network
from ltgate.neurons import Dynamics

NAME = "portable"
SLICE_IMAGES = 32
SLICE_NEURONS = 2**19  # of all images of a slice, where it may be larger
CHUNK_STEPS = 8


def available(device: str) -> bool:
    """Every device that PyTorch knows."""
    return device == "cpu" or torch.cuda.is_available()


def currents(layer: Layer, inputs: Tensor, weight: Tensor | None = None) -> Tensor:
    """Summed weights of ``inputs`` [N, channels, height, width]: [N, C, out, height, width].

    ``weight``: other weights than the layer's ``forward_weight``, shaped like them.
    """
    weight = layer.forward_weight.to(inputs.device) if weight is None else weight
    stacked = weight.flatten(0, 1)
    if layer.is_conv:
        summed = functional.conv2d(inputs, stacked, stride=layer.stride, padding=1)
    else:
        summed = inputs.flatten(1) @ stacked.T
    return summed.reshape(len(inputs), *weight.shape[:2], *layer.out_shape[1:])


def in_time(layer: Layer, inputs: Tensor, weight: Tensor | None = None) -> Tensor:
    """Currents [T, C, B, out, height, width] of inputs [T, B, channels, height, width]."""
    found = currents(layer, inputs.flatten(0, 1), weight)
    return found.unflatten(0, inputs.shape[:2]).transpose(1, 2)


def correlate(layer: Layer, trace: Tensor, post: Tensor) -> Tensor:
    """Sum over N and positions of post x trace, as one weight-gradient call.

    Args:
        layer: Gives stride and shapes.
        trace: Presynaptic traces of one compartment [N, channels, height, width].
        post: Postsynaptic spikes (or their weighted sums) [N, out, height, width].

    Returns:
        [out, in, 3, 3], or [out, in] for a dense layer.
    """
    if not layer.is_conv:
        return post.flatten(1).T @ trace.flatten(1)
    shape = (post.shape[1], trace.shape[1], KERNEL, KERNEL)
    return torch.nn.grad.conv2d_weight(trace, shape, post, stride=layer.stride, padding=1)


def options(
    dynamics: Dynamics, layer: Layer, schedule: Schedule, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """The options of :func:`ltgate.neurons.scan` for a layer's state [C, B, out, height, width]."""
    like = {"device": layer.weight.device, "dtype": dtype}
    column = (-1, 1, 1, 1, 1)
    found = {
        "decay": torch.from_numpy(dynamics.decay(schedule.dt_ms)).to(**like).view(column),
        "gain": torch.from_numpy(dynamics.gain(schedule.charge_ms)).to(**like).view(column),
        "threshold": layer.threshold.to(**like)[:, None, :, None, None],
        "gate": layer.forward_gate.to(**like)[:, None, None],
        "output": dynamics.output,
        "reset": dynamics.reset,
    }
    followed = layer.gate.to(**like)[:, None, None]
    if dynamics.follows == "own":
        found["decay"] = torch.exp(-schedule.dt_ms / followed)[None, None]
    if dynamics.follows == "cue":
        found["gate"] = (schedule.dt_ms < followed).to(dtype)
    return found


class Following:
    """What a layer's timescale follows (:mod:`ltgate.timescale`), block by block of a sample."""

    def __init__(self, dynamics: Dynamics, layer: Layer, schedule: Schedule) -> None:
        self.dynamics, self.layer, self.schedule = dynamics, layer, schedule
        self.done, self.state = 0, None

    def block(self, current: Tensor, inputs: Tensor, options: dict[str, Any]) -> dict[str, Tensor]:
        """The options of :func:`ltgate.neurons.step` that change from step to step.

        ``current`` [K, C, B, out, height, width] and ``inputs`` [K, B, ...] of the next K steps.
        """
        follows, done = self.dynamics.follows, self.done
        point = self.layer.gate.to(current)[:, None, None]
        self.done += len(current)
        if follows in timescale.GATED:
            pooled = follows == "layer"
            rest = torch.zeros_like(current[0])
            total = rest.new_zeros(*rest.shape[:2], 1, 1, 1).double() if pooled else rest
            before = self.state or timescale.Power(rest, total)
            gates, self.state = timescale.follow(
                current, before, done, options["decay"], options["gain"], point, pooled
            )
            return {"gate": gates}
        if follows == "rate":
            arrived = inputs.new_zeros(inputs.shape[1]) if self.state is None else self.state
            tau, rate = self.dynamics.tau_ms[0], float(point.flatten()[0])
            decays, self.state = timescale.rate_decay(
                inputs, arrived, done, self.schedule.dt_ms, tau, rate
            )
            return {"decay": decays}
        return {}


def events(stream: Tensor, drive: np.ndarray) -> Tensor:
    """A stream [B, frames, ...] of 0 and 1 on its clock: float32 [T, B, ...]."""
    clocked = stream.new_zeros(len(drive), *stream.shape[:1], *stream.shape[2:])
    clocked[torch.from_numpy(drive > 0)] = stream.transpose(0, 1)
    return clocked.float()


def shown(network: Network, samples: np.ndarray | Tensor, schedule: Schedule) -> Tensor:
    """What the first layer receives at every step: float32 [T, B, channels, height, width]."""
    samples = torch.as_tensor(samples).to(network.layers[0].weight.device)
    if samples.ndim == 5:
        return events(samples, schedule.drive)
    drive = torch.from_numpy(schedule.drive).to(samples.device)
    return drive.view(-1, 1, 1, 1, 1) * network.pixels(samples)


class _State:
    """Membranes, traces and sums of one layer for one slice of images."""

    def __init__(
        self, network: Network, layer: Layer, schedule: Schedule, images: int, learning: bool
    ) -> None:
        compartments, device = network.dynamics.compartments, layer.weight.device
        self.layer = layer
        self.options = options(network.dynamics, layer, schedule)
        self.following = Following(network.dynamics, layer, schedule)
        self.membrane = torch.zeros(compartments, images, *layer.out_shape, device=device)
        self.counts = torch.zeros(images, *layer.out_shape, dtype=torch.int32, device=device)
        self.crossings = torch.zeros(images, compartments, layer.out_shape[0], device=device)
        self.trace = torch.zeros(compartments, images, *layer.in_shape, device=device)
        self.update = torch.zeros_like(layer.weight, device=device) if learning else None

    def advance(self, current: Tensor, inputs: Tensor) -> Tensor:
        """Scan a chunk of currents [K, C, B, ...]; spikes [K, B, ...] as float32."""
        changing = self.following.block(current, inputs, self.options)
        record = neurons.scan(current, self.membrane, changing, **self.options)
        self.membrane = record.end
        self.counts += record.spikes.sum(0).to(torch.int32)
        self.crossings += record.crossed.sum((0, 4, 5)).transpose(0, 1)
        return record.spikes

    def learn(self, inputs: Tensor, spikes: Tensor, trace_decay: Tensor) -> None:
        """Advance the traces over a chunk of inputs [K, B, ...]; add post x trace."""
        for compartment, decay in enumerate(trace_decay):
            traces = [self.trace[compartment]]
            for frame in inputs.unbind(0):
                traces.append(traces[-1] * decay + frame)
            self.trace[compartment], folded = traces[-1], torch.cat(traces[1:])
            self.update[compartment] += correlate(self.layer, folded, spikes.flatten(0, 1))


def forward(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    trace_decay: np.ndarray | None = None,
    raster: tuple[str, ...] = (),
) -> Activity:
    """See :func:`ltgate.backends.forward`; runs on the device of the network's weights."""
    size = SLICE_IMAGES  # updates are sums, whose order the slices fix
    if trace_decay is None:
        size = max(size, min(512, SLICE_NEURONS // sum(x.neurons for x in network.layers)))
    slices = [_slice(network, part, schedule, trace_decay, raster) for part in images.split(size)]
    activity = Activity(steps=len(schedule.drive))
    for name in network.names:
        activity.counts[name] = torch.cat([part.counts[name] for part in slices])
        activity.crossings[name] = torch.cat([part.crossings[name] for part in slices])
        if trace_decay is not None:
            activity.updates[name] = sum(part.updates[name] for part in slices)
        if name in raster:
            activity.rasters[name] = torch.cat([part.rasters[name] for part in slices], 1)
    return activity


@torch.no_grad()
def _slice(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    trace_decay: np.ndarray | None,
    raster: tuple[str, ...],
) -> Activity:
    device = network.layers[0].weight.device
    learning = trace_decay is not None
    decays = torch.from_numpy(trace_decay).to(device) if learning else None
    drive = torch.from_numpy(schedule.drive).to(device).view(-1, 1, 1, 1, 1)
    streamed = images.ndim == 5
    pixels = shown(network, images, schedule) if streamed else network.pixels(images)
    states = [_State(network, layer, schedule, len(images), learning) for layer in network.layers]
    constant = None if streamed else currents(network.layers[0], pixels).transpose(0, 1)
    rasters: dict[str, list[Tensor]] = {name: [] for name in raster}

    for start in range(0, len(drive), CHUNK_STEPS):
        chunk = drive[start : start + CHUNK_STEPS]
        spikes = pixels[start : start + CHUNK_STEPS] if streamed else None
        for state in states:
            if spikes is None:
                inputs = chunk * pixels
                current = chunk.unsqueeze(-1) * constant
            else:
                inputs = spikes
                current = in_time(state.layer, inputs)
            spikes = state.advance(current, inputs)
            if learning:
                state.learn(inputs, spikes, decays)
            if state.layer.name in rasters:
                rasters[state.layer.name].append(spikes.to(torch.uint8).cpu())

    activity = Activity(steps=len(drive))
    for state in states:
        name = state.layer.name
        activity.counts[name] = state.counts
        activity.crossings[name] = state.crossings.to(torch.int64)
        if learning:
            activity.updates[name] = state.update
        if name in rasters:
            activity.rasters[name] = torch.cat(rasters[name])
    return activity
