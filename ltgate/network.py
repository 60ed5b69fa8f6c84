r"""The network: convolutions, dense layers and their state.

A layer holds one weight set per compartment, thresholds and gates. The forward pass uses the
weights rounded to a grid of 2^-10 with |w| < 2 and gates rounded to k/128: with pixels byte/256
every float32 sum of currents is then exact (in the first layer: while the |w| of a neuron sum to
less than 64), so spikes do not depend on the order of summation, hence not on backend, batch,
thread count or machine. Learning keeps the full-precision copy.

Published configuration: 1 -> 16 -> 32 -> 64 channels, 3x3, strides 1, 2, 2, padding 1, no bias,
then 3136 -> 256 (configs/ltgate.yaml of the authors' code).
"""

import hashlib
from copy import deepcopy
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from ltgate import fixed_point
from ltgate.declare import Count, Group, Positive, Whole, shown
from ltgate.errors import UserError
from ltgate.neurons import Dynamics
from ltgate.state import Tensors

if TYPE_CHECKING:
    from ltgate.params import Params

GRID = 2.0**-10
LARGEST = 2.0 - GRID
KERNEL = 3
GATE_STEPS = 128


class NetworkParameters(Group):
    """Network."""

    channels: list[Count] = [16, 32, 64]
    """output channels of each convolution; none: dense layers alone"""
    strides: list[Count] = [1, 2, 2]
    """stride of each convolution"""
    hidden: list[Count] = [256]
    """neurons of each dense layer"""
    balanced: bool = True
    """initial filters without their mean and of unit length"""
    weight_scale: Positive = 1.0
    """factor on the initial weights"""
    threshold: Positive = 0.5
    """firing threshold before calibration"""

    def layers(self) -> list[str]:
        """Names of the spiking layers, first to last: conv1, ..., dense1, ..."""
        convolutions = [f"conv{i}" for i in range(1, len(self.channels) + 1)]
        return convolutions + [f"dense{i}" for i in range(1, len(self.hidden) + 1)]

    @model_validator(mode="after")
    def _some_layer(self) -> Self:
        if not self.channels and not self.hidden:
            raise ValueError("channels = [] and hidden = []: a network needs a layer")
        return self

    @model_validator(mode="after")
    def _one_stride_a_convolution(self) -> Self:
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"strides = {shown(self.strides)}: has {len(self.strides)} entries but channels = "
                f"{shown(self.channels)} has {len(self.channels)}; one stride per convolution"
            )
        return self


class WiringParameters(Group, since="0.2"):
    """Wiring of the first layer."""

    fan_in: Whole = 0
    """inputs of each neuron of a dense first layer, drawn at random; 0 = all"""
    fan_in_groups: Count = 1
    """equal parts of the input's channels; a neuron's inputs are of one of them"""
    same_weights: bool = False
    """compartments of a neuron start with one set of weights"""


class Layer(Tensors):
    """One layer of neurons with the weights that lead to it.

    Attributes:
        name: ``conv1``, ``conv2``, ..., ``dense1``, ...
        stride: Stride of a convolution (padding 1); 0 marks a dense layer.
        in_shape: (channels, height, width) of its input.
        out_shape: (channels, height, width) of its neurons; a dense layer is (neurons, 1, 1).
        weight: Full-precision weights, float32 [C, out, in, 3, 3] or [C, out, in].
        threshold: float32 [C, out] (``or``) or [1, out] (``blend``); shared over positions.
        gate: gamma, float32 [out], 1 = fast only; or the q of what the neuron's timescale follows
            (:mod:`ltgate.timescale`).
        bits: Bits of a forward weight on Loihi 2; 0: the grid alone. Whatever learns moves
            ``weight`` (straight through the rounding).
    """

    def __init__(
        self,
        name: str,
        stride: int,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, int, int],
        weight: Tensor,
        threshold: Tensor,
        gate: Tensor,
    ) -> None:
        super().__init__(weight=weight, threshold=threshold, gate=gate)
        self.name, self.stride = name, stride
        self.in_shape, self.out_shape = in_shape, out_shape
        self.bits = 0

    def __repr__(self) -> str:
        inner, outer = (" x ".join(map(str, shape)) for shape in (self.in_shape, self.out_shape))
        return f"{self.name}: {inner} -> {outer}" + f", stride {self.stride}" * self.is_conv

    @property
    def is_conv(self) -> bool:
        """Whether this is a convolution."""
        return self.stride > 0

    @property
    def padding(self) -> int:
        """Silent positions around the input of a convolution."""
        return int(self.is_conv)

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.out_shape))

    @property
    def forward_weight(self) -> Tensor:
        """The weights on the 2^-10 grid, |w| < 2, that the forward pass uses."""
        if self.bits:
            largest = fixed_point.largest_weight(self.bits)
            return fixed_point.round_weights(self.weight.clamp(-largest, largest), self.bits)
        return to_grid(self.weight)

    @property
    def forward_gate(self) -> Tensor:
        """The gates as k/128."""
        return torch.round(self.gate.clamp(0, 1) * GATE_STEPS) / GATE_STEPS


def to_grid(weight: Tensor) -> Tensor:
    """Round to the nearest multiple of 2^-10 and clip to |w| < 2."""
    return (torch.round(weight / GRID) * GRID).clamp(-LARGEST, LARGEST)


class Network(nn.Module):
    """Layers in order, and the dynamics that all of them share.

    Its state holds all tensors by name (``conv1.weight``, ...).
    """

    def __init__(self, dynamics: Dynamics, layers: list[Layer]) -> None:
        super().__init__()
        self.dynamics, self.layers = dynamics, layers
        for layer in layers:
            self.add_module(layer.name, layer)

    def __repr__(self) -> str:
        return "\n  ".join(["Network", *map(repr, self.layers), repr(self.dynamics)])

    @property
    def names(self) -> list[str]:
        """Names of the layers in order."""
        return [layer.name for layer in self.layers]

    @property
    def compartments(self) -> int:
        """Number C of compartments."""
        return self.dynamics.compartments

    def pixels(self, images: np.ndarray | Tensor) -> Tensor:
        """Input currents, byte / 256: float32 [B, channels, height, width] beside the weights."""
        first = self.layers[0]
        images = torch.as_tensor(images).to(first.weight.device)
        return images.reshape(len(images), *first.in_shape).float() / 256

    def upto(self, name: str) -> "Network":
        """The layers up to and including ``name`` (sharing the same tensors)."""
        return Network(self.dynamics, self.layers[: self.names.index(name) + 1])

    def clone(self) -> "Network":
        """A deep copy."""
        return deepcopy(self)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify dynamics and all forward values."""
        digest = hashlib.sha256(repr(self.dynamics).encode())
        for layer in self.layers:
            digest.update(f"{layer.name}/{layer.stride}/{layer.out_shape}".encode())
            for tensor in (layer.forward_weight, layer.threshold, layer.forward_gate):
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]


def create(
    dynamics: Dynamics,
    channels: list[int],
    strides: list[int],
    hidden: list[int],
    generator: np.random.Generator,
    image_shape: tuple[int, int, int] = (1, 28, 28),
    threshold: float = 0.5,
    gate: float = 0.5,
    weight_scale: float = 1.0,
) -> Network:
    """Draw a network: weights uniform in +-weight_scale / sqrt(fan-in), clipped to |w| < 2.

    Args:
        dynamics: The neuron's options.
        channels: Output channels of each convolution.
        strides: Stride of each convolution.
        hidden: Neurons of each dense layer after the convolutions.
        generator: The seeded source of every draw.
        image_shape: (channels, height, width) of the input.
        threshold: Initial theta of every neuron.
        gate: Initial gamma of every neuron.
        weight_scale: Factor on the usual bound 1 / sqrt(fan-in).
    """
    layers, before = [], image_shape
    after = shapes(channels, strides, hidden, image_shape)
    for (name, shape), stride in zip(after.items(), [*strides, *[0] * len(hidden)], strict=True):
        fan_in = (before[0], KERNEL, KERNEL) if stride else (int(np.prod(before)),)
        bound = weight_scale / np.sqrt(np.prod(fan_in))
        values = generator.uniform(-bound, bound, (dynamics.compartments, shape[0], *fan_in))
        weight = torch.from_numpy(values.astype(np.float32)).clamp(-LARGEST, LARGEST)
        theta = torch.full((dynamics.thresholds, shape[0]), threshold)
        layers.append(
            Layer(name, stride, before, shape, weight, theta, torch.full(shape[:1], gate))
        )
        before = shape
    return Network(dynamics, layers)


def balance(weight: Tensor) -> Tensor:
    """Filters [C, out, ...] with their mean taken off and brought to length 1."""
    flat = weight.flatten(2)
    flat = functional.normalize(flat - flat.mean(2, keepdim=True), dim=2)
    return flat.reshape(weight.shape)


def drawn(
    params: "Params", image_shape: tuple[int, int, int], generator: np.random.Generator
) -> Network:
    """The network that the parameters describe, for images [channels, height, width]."""
    p, taus = params, params.taus()
    if p.chip_aware:
        taus = [fixed_point.effective_tau(tau) for tau in taus]
    network = create(
        Dynamics(tuple(taus), p.output, p.current, p.reset, p.follows), p.channels, p.strides,
        p.hidden, generator, image_shape, p.threshold, p.gamma, p.weight_scale,
    )  # fmt: skip
    if p.balanced:
        for layer in network.layers:
            layer.weight = p.weight_scale * balance(layer.weight)
    if p.fan_in:
        wire(network.layers[0], p.fan_in, p.fan_in_groups, generator)
    for layer in network.layers:
        if p.same_weights:
            layer.weight = layer.weight[:1].expand_as(layer.weight).clone()
        layer.bits = p.chip_bits if p.chip_aware else 0
    return network


def wire(layer: Layer, fan_in: int, groups: int, generator: np.random.Generator) -> None:
    """Keep ``fan_in`` random inputs of every neuron of a dense layer; the others weigh 0."""
    inputs, neurons = int(np.prod(layer.in_shape)), layer.out_shape[0]
    if layer.is_conv or inputs % groups or fan_in > inputs // groups:
        raise UserError(
            f"fan_in = {fan_in} of {groups} groups: {layer.name} is "
            f"{'a convolution' if layer.is_conv else f'dense with {inputs} inputs'}; allowed are a "
            "dense first layer and at most the inputs of one of equal groups"
        )
    part = inputs // groups
    kept = torch.zeros(neurons, inputs)
    for neuron, group in enumerate(groups_of(neurons, groups)):
        kept[neuron, group * part + generator.choice(part, fan_in, replace=False)] = 1
    layer.weight = layer.weight * kept


def groups_of(neurons: int, groups: int) -> np.ndarray:
    """Which of equal parts of the channels each neuron's inputs are of, [neurons]."""
    return np.arange(neurons) * groups // neurons


def shapes(
    channels: list[int], strides: list[int], hidden: list[int], image_shape: tuple[int, int, int]
) -> dict[str, tuple[int, int, int]]:
    """(channels, height, width) of every layer's neurons: conv1, ..., dense1, ..."""
    found, size = {}, image_shape[1:]
    for index, (out, stride) in enumerate(zip(channels, strides, strict=True), 1):
        size = [(extent + 2 - KERNEL) // stride + 1 for extent in size]
        found[f"conv{index}"] = (out, size[0], size[1])
    return found | {f"dense{index}": (out, 1, 1) for index, out in enumerate(hidden, 1)}
