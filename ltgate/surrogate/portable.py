"""Plain PyTorch engine, on any device: whatever is not a recurrence runs over all steps at once.

Arrays are [T, B, C, channels, height, width]. The membranes before their reset are kept; spikes,
crossings and the surrogate's derivative follow from them.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ltgate.backends.portable import correlate, currents
from ltgate.data.tasks import Schedule
from ltgate.network import Layer, Network
from ltgate.neurons import Dynamics

NAME = "portable"


def available(device: str) -> bool:
    """Every device that PyTorch knows."""
    return device == "cpu" or torch.cuda.is_available()


def slice_images(device: str) -> int:
    """Images in a slice: their membranes and gradients are in memory together."""
    return 1 if device == "cpu" else 32


class _Cell:
    """The neurons of a layer: scan and reverse scan."""

    def __init__(self, layer: Layer, dynamics: Dynamics, schedule: Schedule, slope: float) -> None:
        def column(values) -> Tensor:
            return torch.from_numpy(values).to(layer.weight).view(-1, 1, 1, 1)

        self.decay = column(dynamics.decay(schedule.dt_ms))
        self.gain = column(dynamics.gain(schedule.charge_ms))
        self.theta = layer.threshold[:, :, None, None]
        gamma = layer.forward_gate[:, None, None]
        self.mix = torch.stack([gamma, 1 - gamma])
        self.slope = slope
        self.blend = dynamics.blended
        self.subtract = dynamics.subtracts

    def compared(self, membrane: Tensor) -> Tensor:
        """What is compared with theta: [..., C or 1, channels, height, width]."""
        if not self.blend:
            return membrane
        return (self.mix * membrane).sum(-4, keepdim=True)

    def crossed(self, membrane: Tensor) -> Tensor:
        """Which comparisons reached theta, 0/1, shaped like :meth:`compared`."""
        return (self.compared(membrane) >= self.theta).to(membrane.dtype)

    def scan(self, current: Tensor) -> Tensor:
        """Turns currents into membranes before their reset, in place; spikes [T, B, ...]."""
        current *= self.gain
        after = torch.zeros_like(current[0])
        for membrane in current.unbind(0):
            membrane += after * self.decay
            crossed = self.crossed(membrane)
            after = membrane - crossed * (self.theta if self.subtract else membrane)
        return self.crossed(current).amax(2)

    def reverse(self, membrane: Tensor, upstream: Tensor) -> Tensor:
        """Gradient of the currents from that of the spikes, ``upstream`` [T, B, ...]."""
        crossed = self.crossed(membrane)
        distance = (self.compared(membrane) - self.theta).abs()
        gradient = upstream.unsqueeze(2) / (1 + self.slope * distance) ** 2
        if self.blend:
            gradient = gradient * self.mix
        else:  # of a maximum: shared evenly by those that attain it
            attained = (crossed == crossed.amax(2, keepdim=True)).to(gradient.dtype)
            gradient = gradient * attained / attained.sum(2, keepdim=True)
        for t in range(len(gradient) - 2, -1, -1):
            later = self.decay * gradient[t + 1]
            gradient[t] += later if self.subtract else later * (1 - crossed[t])
        return gradient * self.gain


def _input_gradient(layer: Layer, gradient: Tensor) -> Tensor:
    """Gradient [N, channels, height, width] of a layer's inputs from that of its currents."""
    weight = layer.forward_weight.flatten(0, 1)
    if not layer.is_conv:
        return (gradient.flatten(1) @ weight).view(-1, *layer.in_shape)
    size = (len(gradient), *layer.in_shape)
    return torch.nn.grad.conv2d_input(
        size, weight, gradient.flatten(1, 2), stride=layer.stride, padding=1
    )


@torch.no_grad()
def run(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    top: Callable[[dict[str, Tensor], slice], dict[str, Tensor]],
    slope: float,
    dtype: torch.dtype,
    slice_images: int,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Spike counts and weight gradients; see :func:`ltgate.surrogate.loss_and_gradients`.

    ``top(counts, rows)`` gives the gradients of the loss with respect to the spike counts of the
    images ``rows``, for the layers that have any.
    """
    layers = [
        replace(
            layer,
            weight=layer.weight.detach().to(dtype),
            threshold=layer.threshold.to(dtype),
            gate=layer.gate.to(dtype),
        )
        for layer in network.layers
    ]
    cells = [_Cell(layer, network.dynamics, schedule, slope) for layer in layers]
    drive = torch.from_numpy(schedule.drive).to(layers[0].weight).view(-1, 1, 1, 1, 1, 1)
    totals = {layer.name: torch.zeros_like(layer.weight) for layer in layers}
    counts: list[dict[str, Tensor]] = []
    for begin in range(0, len(images), slice_images):
        part = images[begin : begin + slice_images]
        pixels = part.to(layers[0].weight).reshape(len(part), *layers[0].in_shape) / 256

        shown, inputs, membranes = {}, [pixels], []
        for layer, cell in zip(layers, cells, strict=True):
            if layer is layers[0]:
                current = drive * currents(layer, pixels)
            else:
                steps = inputs[-1].shape[:2]
                current = currents(layer, inputs[-1].flatten(0, 1)).unflatten(0, steps)
            inputs.append(cell.scan(current))
            membranes.append(current)
            shown[layer.name] = inputs[-1].sum(0).to(torch.int32)
        counts.append(shown)

        used = top(shown, slice(begin, begin + len(part)))
        upstream = None
        for index in range(len(layers) - 1, -1, -1):
            layer, here = layers[index], used.get(layers[index].name)
            if here is not None:
                upstream = here if upstream is None else upstream + here
            if upstream is None:
                continue
            upstream = upstream.expand(len(drive), *shown[layer.name].shape)
            gradient = cells[index].reverse(membranes[index], upstream)
            if index == 0:
                folded, presynaptic = (drive * gradient).sum(0), pixels
            else:
                folded, presynaptic = gradient.flatten(0, 1), inputs[index].flatten(0, 1)
                upstream = _input_gradient(layer, folded).unflatten(0, gradient.shape[:2])
            totals[layer.name] += correlate(layer, presynaptic, folded.flatten(1, 2)).view_as(
                layer.weight
            )
    return {name: torch.cat([shown[name] for shown in counts]) for name in network.names}, totals
