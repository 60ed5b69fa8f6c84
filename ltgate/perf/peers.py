"""Other ways to compute the same network: its dense convolutions alone, and other libraries.

The libraries are optional (the extra ``peers``). Each gets two populations per layer, both
compartments' channels, the same weights, thresholds and images, and computes the first layer's
constant current once. SpikingJelly gives the same spikes as ours; snnTorch's reset acts one step
later.
"""

import importlib.metadata
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from ltgate.network import Layer
from ltgate.perf.bench import RATE, Workload

Counts = dict[str, Tensor]

# Settings tried, the usual best first: images at once, and steps at once (0 = all), where a layer
# does that many steps before the next layer does.
SETTINGS = {
    "spikingjelly": [(4, 0), (2, 0), (8, 0), (32, 0)],
    "snntorch": [(32, 1), (32, 0), (8, 0)],
}


def installed(name: str) -> str:
    """``name version``, or empty when the library is not there."""
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def forward(name: str, workload: Workload, images: int, steps: int) -> Callable[[], Counts]:
    """A forward pass in library ``name``; it returns the spike counts of every layer.

    Args:
        name: ``spikingjelly`` or ``snntorch``.
        workload: Raw current, ``or``, reset by subtraction, one threshold per layer.
        images, steps: Worked on at once; 0 steps = all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old ways of PyTorch that these libraries use
        population = {"spikingjelly": _SpikingJelly, "snntorch": _SnnTorch}[name]
        layers = [_PeerLayer(layer, population, workload) for layer in workload.network.layers]
    pixels = workload.network.pixels(workload.images)
    total = len(workload.steps)
    chunks = [min(steps or total, total - first) for first in range(0, total, steps or total)]

    @torch.no_grad()
    def run() -> Counts:
        parts = [_count(layers, part, chunks) for part in pixels.split(images)]
        counts = (torch.cat(layer) for layer in zip(*parts, strict=True))
        return dict(zip(workload.network.names, counts, strict=True))

    return run


def _count(layers: list["_PeerLayer"], pixels: Tensor, chunks: list[int]) -> list[Tensor]:
    for layer in layers:
        layer.start()
    constant = layers[0].current(pixels)
    counts: list = [0] * len(layers)
    for steps in chunks:
        current = constant.expand(steps, *constant.shape)
        for index, layer in enumerate(layers):
            spikes = layer.spikes(current)
            counts[index] = counts[index] + (spikes.sum(0) if steps > 1 else spikes[0])
            for following in layers[index + 1 : index + 2]:
                current = following.current(spikes.flatten(0, 1)).unflatten(0, (steps, -1))
    return counts


class _PeerLayer:
    """One layer of two populations."""

    def __init__(self, layer: Layer, population: Callable, workload: Workload) -> None:
        self.layer = layer
        self.weight = layer.forward_weight.flatten(0, 1)
        if layer.is_conv:
            self.weight = self.weight.to(memory_format=torch.channels_last)
        decays = workload.network.dynamics.decay(workload.steps.dt_ms)
        self.populations = [
            population(float(decay), float(threshold))
            for decay, threshold in zip(decays, layer.threshold[:, 0], strict=True)
        ]

    def start(self) -> None:
        """State at rest."""
        for population in self.populations:
            population.start()

    def current(self, inputs: Tensor) -> Tensor:
        """Currents [N, populations x channels, ...] of inputs [N, ...]."""
        if not self.layer.is_conv:
            return functional.linear(inputs.flatten(1), self.weight)[:, :, None, None]
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(inputs, self.weight, stride=self.layer.stride, padding=1)

    def spikes(self, current: Tensor) -> Tensor:
        """Spikes [T, N, channels, ...] of currents [T, N, populations x channels, ...]."""
        parts = current.chunk(len(self.populations), 2)
        found = [population(part) for population, part in zip(self.populations, parts, strict=True)]
        return found[0] if len(found) == 1 else torch.maximum(*found)


class _SpikingJelly:
    """``LIFNode`` in multi-step mode: v <- v (1 - 1/tau) + I, reset by subtraction."""

    def __init__(self, decay: float, threshold: float) -> None:
        from spikingjelly.activation_based.neuron import LIFNode

        self.node = LIFNode(  # its backend is PyTorch, unless told otherwise
            tau=1 / (1 - decay), decay_input=False, v_threshold=threshold, v_reset=None,
            step_mode="m",
        ).eval()  # fmt: skip
        self.start = self.node.reset

    def __call__(self, current: Tensor) -> Tensor:
        return self.node(current)


class _SnnTorch:
    """``Leaky``: v <- decay v + I - threshold (last spike)."""

    def __init__(self, decay: float, threshold: float) -> None:
        from snntorch import Leaky

        self.node = Leaky(beta=decay, threshold=threshold, reset_mechanism="subtract").eval()

    def start(self) -> None:
        self.membrane = self.node.reset_mem()

    def __call__(self, current: Tensor) -> Tensor:
        spikes = []
        for step in current.unbind(0):
            spike, self.membrane = self.node(step, self.membrane)
            spikes.append(spike)
        return torch.stack(spikes) if len(spikes) > 1 else spikes[0][None]


class Convolutions:
    """All layers' dense currents for a batch, without neurons: no state, no spikes to count.

    Time is folded into the batch; ``images`` and ``steps`` are worked on at once, so that buffers
    stay in the cache. Inputs are random 0/1 at the network's rate: dense work does not depend on
    them. The first layer's current is computed once per image.

    Args:
        workload: Gives network, number of images, number of steps and device.
        images, steps: Worked on at once.
        channels_last: Layout of the convolutions.
        dtype: Of weights, inputs and currents.
    """

    def __init__(
        self,
        workload: Workload,
        images: int = 8,
        steps: int = 20,
        channels_last: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        total = len(workload.steps)
        images, steps = min(images, len(workload.images)), min(steps, total)
        self.rounds = -(-len(workload.images) // images) * -(-total // steps)
        self.layers = workload.network.layers
        layout = torch.channels_last if channels_last else torch.contiguous_format
        generator = torch.Generator().manual_seed(0)
        self.inputs, self.weights = [], []
        for index, layer in enumerate(self.layers):
            number = images * steps if index else len(workload.images)
            spikes = torch.rand(number, *layer.in_shape, generator=generator) < RATE
            weight = layer.forward_weight.flatten(0, 1).to(dtype)
            inputs = spikes.to(workload.device, dtype)
            if layer.is_conv:
                weight, inputs = weight.to(memory_format=layout), inputs.to(memory_format=layout)
            else:
                inputs = inputs.flatten(1)
            self.weights.append(weight)
            self.inputs.append(inputs)

    @torch.no_grad()
    def run(self) -> None:
        """The dense work of one batch."""
        self.currents(0)
        for _ in range(self.rounds):
            for index in range(1, len(self.layers)):
                self.currents(index)

    def currents(self, index: int) -> Tensor:
        """Currents [N, compartments x channels, ...] of one layer."""
        layer, weight, inputs = self.layers[index], self.weights[index], self.inputs[index]
        if layer.is_conv:
            return functional.conv2d(inputs, weight, stride=layer.stride, padding=1)
        return inputs @ weight.T
