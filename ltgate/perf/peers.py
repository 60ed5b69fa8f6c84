"""Other libraries on the same network: two populations per layer, both compartments' channels.

Both are optional (the extra ``peers``). Each gets the same weights, thresholds and images, computes
the first layer's constant current once, and folds time into the batch of its convolutions where
that is faster. SpikingJelly gives the same spikes as ours; snnTorch's reset acts one step later.
"""

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from ltgate.network import Layer
from ltgate.perf.bench import Workload

Counts = dict[str, Tensor]

# Settings tried, the usual best first: images at once, and whether time is folded into the batch.
SETTINGS = {
    "spikingjelly": [(4, True), (2, True), (8, True), (32, True)],
    "snntorch": [(32, False), (32, True), (8, True)],
}


def installed(name: str) -> str:
    """``name version``, or empty when the library is not there."""
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def forward(name: str, workload: Workload, images: int, folded: bool) -> Callable[[], Counts]:
    """A forward pass in library ``name``; it returns the spike counts of every layer.

    Args:
        name: ``spikingjelly`` or ``snntorch``.
        workload: Raw current, ``or``, reset by subtraction, one threshold per layer.
        images: Worked on at once.
        folded: All steps of a layer before the next layer; else all layers of a step.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old ways of PyTorch that these libraries use
        population = {"spikingjelly": _spikingjelly, "snntorch": _snntorch}[name]
        importlib.import_module(name)
        layers = [_Layer(layer, population, workload) for layer in workload.network.layers]
    pixels = workload.network.pixels(workload.images)

    @torch.no_grad()
    def run() -> Counts:
        parts = []
        for part in pixels.split(images):
            for layer in layers:
                layer.start(len(part))
            run_part = _layer_by_layer if folded else _step_by_step
            parts.append(run_part(layers, part, len(workload.steps)))
        names = workload.network.names
        return dict(
            zip(names, (torch.cat(counts) for counts in zip(*parts, strict=True)), strict=True)
        )

    return run


class _Layer:
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

    def start(self, images: int) -> None:
        """State at rest."""
        for population in self.populations:
            population.start()

    def current(self, inputs: Tensor) -> Tensor:
        """Currents [N, populations x channels, ...] of inputs [N, ...]."""
        if not self.layer.is_conv:
            return functional.linear(inputs.flatten(1), self.weight)[:, :, None, None]
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(inputs, self.weight, stride=self.layer.stride, padding=1)

    def spikes(self, current: Tensor, many: bool) -> Tensor:
        """Spikes of one step [N, ...] or, with ``many``, of all steps [T, N, ...]."""
        parts = current.chunk(len(self.populations), 2 if many else 1)
        found = [
            population.many(part) if many else population.one(part)
            for population, part in zip(self.populations, parts, strict=True)
        ]
        return found[0] if len(found) == 1 else torch.maximum(*found)


def _layer_by_layer(layers: list[_Layer], pixels: Tensor, steps: int) -> list[Tensor]:
    counts, spikes = [], None
    for layer in layers:
        if spikes is None:
            constant = layer.current(pixels)
            current = constant.expand(steps, *constant.shape)
        else:
            current = layer.current(spikes.flatten(0, 1)).unflatten(0, (steps, -1))
        spikes = layer.spikes(current, many=True)
        counts.append(spikes.sum(0))
    return counts


def _step_by_step(layers: list[_Layer], pixels: Tensor, steps: int) -> list[Tensor]:
    constant = layers[0].current(pixels)
    counts: list = [0] * len(layers)
    for _ in range(steps):
        spikes = None
        for index, layer in enumerate(layers):
            current = constant if spikes is None else layer.current(spikes)
            spikes = layer.spikes(current, many=False)
            counts[index] = counts[index] + spikes
    return counts


class _spikingjelly:
    """``LIFNode`` in multi-step mode: v <- v (1 - 1/tau) + I, reset by subtraction."""

    def __init__(self, decay: float, threshold: float) -> None:
        from spikingjelly.activation_based.neuron import LIFNode

        self.node = LIFNode(  # its backend is PyTorch, unless told otherwise
            tau=1 / (1 - decay), decay_input=False, v_threshold=threshold, v_reset=None,
            step_mode="m",
        ).eval()  # fmt: skip

    def start(self) -> None:
        self.node.reset()

    def many(self, current: Tensor) -> Tensor:
        return self.node(current)

    def one(self, current: Tensor) -> Tensor:
        return self.node(current[None])[0]


class _snntorch:
    """``Leaky``: v <- decay v + I - threshold (last spike)."""

    def __init__(self, decay: float, threshold: float) -> None:
        from snntorch import Leaky

        self.node = Leaky(beta=decay, threshold=threshold, reset_mechanism="subtract").eval()
        self.start()

    def start(self) -> None:
        self.membrane = self.node.reset_mem()

    def one(self, current: Tensor) -> Tensor:
        spikes, self.membrane = self.node(current, self.membrane)
        return spikes

    def many(self, current: Tensor) -> Tensor:
        return torch.stack([self.one(step) for step in current.unbind(0)])
