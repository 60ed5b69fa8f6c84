"""The twin in plain PyTorch: any device, all images at once, step by step.

Convolutions run in float64. Every product and every partial sum is an integer far below 2^53, so
they are exact in any order of summation; membranes and thresholds are int64.
"""

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from ltgate.fixed_point import DECAY_ONE
from ltgate.loihi.quantnet import QuantLayer, QuantNetwork
from ltgate.loihi.twin.base import Run
from ltgate.network import GATE_STEPS


def forward(
    net: QuantNetwork,
    images: Tensor,
    drive: np.ndarray,
    raster: tuple[str, ...],
    device: str = "cpu",
) -> Run:
    """See :func:`ltgate.loihi.twin.forward`."""
    pixels = images.to(device).double().reshape(len(images), *net.layers[0].in_shape)
    layers = [_Neurons(net, layer, len(images), device) for layer in net.layers]
    rasters = {name: [] for name in raster}
    for level in drive.tolist():
        spikes = pixels * level
        for neurons in layers:
            spikes = neurons.step(spikes)
            if neurons.layer.name in rasters:
                rasters[neurons.layer.name].append(spikes.to(torch.uint8).cpu())
    made = Run(len(drive))
    for neurons in layers:
        name = neurons.layer.name
        made.counts[name] = neurons.counts.int().cpu()
        made.crossings[name] = neurons.crossings.cpu()
        made.peaks[name] = neurons.peak.cpu().double().numpy()
    made.rasters = {name: torch.stack(steps) for name, steps in rasters.items()}
    return made


class _Neurons:
    """One layer's state; tensors are [B, K, out, height, width]."""

    def __init__(self, net: QuantNetwork, layer: QuantLayer, batch: int, device: str) -> None:
        def tensor(values: np.ndarray, *shape: int) -> Tensor:
            return torch.from_numpy(np.asarray(values, np.int64)).to(device).reshape(shape)

        self.net, self.layer = net, layer
        count, out = net.compartments, layer.out_shape[0]
        self.weight = torch.from_numpy(layer.weight).to(device).double().flatten(0, 1)
        self.scale = 2.0 ** tensor(layer.exponent, 1, count, 1, 1, 1).double()
        self.keep = DECAY_ONE - tensor(net.decay, 1, count, 1, 1, 1)
        self.theta = tensor(layer.threshold, 1, len(layer.mantissa), out, 1, 1)
        self.gate = tensor(layer.gate, 1, out, 1, 1)
        shape = (batch, count, *layer.out_shape)
        self.membrane = torch.zeros(shape, dtype=torch.int64, device=device)
        self.counts = torch.zeros((batch, *layer.out_shape), dtype=torch.int64, device=device)
        self.crossings = torch.zeros(shape[:3], dtype=torch.int64, device=device)
        self.peak = torch.zeros(count, dtype=torch.int64, device=device)

    def step(self, inputs: Tensor) -> Tensor:
        """Integer inputs [B, in, height, width] to spikes of the same type."""
        layer, net = self.layer, self.net
        if layer.is_conv:
            sums = functional.conv2d(
                inputs, self.weight, stride=layer.stride, padding=layer.padding
            )
        else:
            sums = (inputs.flatten(1) @ self.weight.T)[:, :, None, None]
        sums = sums.unflatten(1, (net.compartments, -1))
        charge = (sums * self.scale).floor().long()
        v = self.membrane
        v = v.sign() * (v.abs() * self.keep >> 12) + charge
        if len(v):
            self.peak = torch.maximum(self.peak, v.abs().amax((0, 2, 3, 4)))
        v = v.clamp(-net.limit, net.limit)
        if net.blended:
            blended = self.gate * v[:, 0] + (GATE_STEPS - self.gate) * v[:, 1]
            crossed = (blended >= GATE_STEPS * self.theta[:, 0]).unsqueeze(1).expand_as(v)
        else:
            crossed = v >= self.theta
        off = crossed * self.theta if net.subtracts else crossed * v
        self.membrane = v - off
        spikes = crossed.any(1)
        self.counts += spikes
        self.crossings += crossed.sum((3, 4))
        return spikes.to(inputs)
