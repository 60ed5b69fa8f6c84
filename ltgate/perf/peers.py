"""Other ways to compute the same network: dense convolutions, alone or with a scan; libraries.

The strongest exact dense program that we know is PyTorch's float32 convolutions of some frames of
some images, whose buffers stay in the cache, and a compiled scan of both compartments over them
(:class:`_ScannedLayer`). The libraries are optional (the extra ``peers``). Each gets two
populations per layer, both compartments' channels, the same weights, thresholds and images, and
computes the first layer's constant current once. SpikingJelly gives the same spikes as ours;
snnTorch's reset acts one step later.
"""

import importlib.metadata
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numba
import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from ltgate.network import Layer
from ltgate.perf.bench import RATE, Workload

Counts = dict[str, Tensor]

# Settings tried, the usual best first: images at once, and steps at once (0 = all), where a layer
# does that many steps before the next layer does.
DENSE_SCAN = "dense float32 convolutions and a compiled scan"
SETTINGS = {
    DENSE_SCAN: [(4, 20), (8, 20), (2, 40), (32, 5)],
    "spikingjelly": [(4, 0), (2, 0), (8, 0), (32, 0)],
    "snntorch": [(32, 1), (32, 0), (8, 0)],
}


def installed(name: str) -> str:
    """``name version``, or empty when the library is not there."""
    if name == DENSE_SCAN:
        return name
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def forward(name: str, workload: Workload, images: int, steps: int) -> Callable[[], Counts]:
    """A forward pass in library ``name``; it returns the spike counts of every layer.

    Args:
        name: A name in ``SETTINGS``.
        workload: Raw current, ``or``, reset by subtraction, one threshold per layer.
        images, steps: Worked on at once; 0 steps = all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old ways of PyTorch that these libraries use
        kind = {
            DENSE_SCAN: _ScannedLayer,
            "spikingjelly": partial(_PeerLayer, _SpikingJelly),
            "snntorch": partial(_PeerLayer, _SnnTorch),
        }[name]
        layers = [kind(layer, workload) for layer in workload.network.layers]
    pixels = workload.network.pixels(workload.images)
    total = len(workload.steps)
    chunks = [min(steps or total, total - first) for first in range(0, total, steps or total)]

    @torch.no_grad()
    def run() -> Counts:
        parts = [_count(layers, part, chunks) for part in pixels.split(images)]
        counts = (torch.cat(layer) for layer in zip(*parts, strict=True))
        return dict(zip(workload.network.names, counts, strict=True))

    return run


def _count(layers: list, pixels: Tensor, chunks: list[int]) -> list[Tensor]:
    for layer in layers:
        layer.start()
    constant = layers[0].current(pixels)
    counts: list = [0] * len(layers)
    for steps in chunks:
        current = constant.expand(steps, *constant.shape)
        for index, layer in enumerate(layers):
            spikes = layer.spikes(current)
            counts[index] = counts[index] + layer.counts(spikes)
            for following in layers[index + 1 : index + 2]:
                current = following.current(spikes.flatten(0, 1)).unflatten(0, (steps, -1))
    return counts


class _Currents:
    """Dense currents of one layer, both compartments' channels."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.weight = layer.forward_weight.flatten(0, 1)
        if layer.is_conv:
            self.weight = self.weight.to(memory_format=torch.channels_last)

    def current(self, inputs: Tensor) -> Tensor:
        """Currents [N, populations x channels, ...] of inputs [N, ...]."""
        if not self.layer.is_conv:
            return functional.linear(inputs.flatten(1), self.weight)[:, :, None, None]
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(inputs, self.weight, stride=self.layer.stride, padding=1)


class _PeerLayer(_Currents):
    """One layer of two populations."""

    def __init__(self, population: Callable, layer: Layer, workload: Workload) -> None:
        super().__init__(layer)
        decays = workload.network.dynamics.decay(workload.steps.dt_ms)
        self.populations = [
            population(float(decay), float(threshold))
            for decay, threshold in zip(decays, layer.threshold[:, 0], strict=True)
        ]

    def start(self) -> None:
        """State at rest."""
        for population in self.populations:
            population.start()

    def spikes(self, current: Tensor) -> Tensor:
        """Spikes [T, N, channels, ...] of currents [T, N, populations x channels, ...]."""
        parts = current.chunk(len(self.populations), 2)
        found = [population(part) for population, part in zip(self.populations, parts, strict=True)]
        return found[0] if len(found) == 1 else torch.maximum(*found)

    def counts(self, spikes: Tensor) -> Tensor:
        """Of the steps that gave ``spikes`` [T, N, ...]: [N, ...]."""
        return spikes.sum(0) if len(spikes) > 1 else spikes[0]


class _ScannedLayer(_Currents):
    """One layer whose two compartments a compiled loop takes through some steps."""

    def __init__(self, layer: Layer, workload: Workload) -> None:
        super().__init__(layer)
        decays = workload.network.dynamics.decay(workload.steps.dt_ms)
        self.decays = np.array([float(decay) for decay in decays], np.float32)
        self.limits = layer.threshold[:, 0].numpy()

    def start(self) -> None:
        """State at rest."""
        self.membrane: np.ndarray | None = None

    def spikes(self, current: Tensor) -> Tensor:
        """Spikes [T, N, channels, ...] of currents [T, N, 2 x channels, ...]."""
        steps, shape = len(current), current.shape[1:]
        if current.stride(0) == 0:  # the same in every step
            current = current[:1]
        last = current.movedim(2, -1).contiguous()
        values = last.reshape(len(current), -1, 2, shape[1] // 2).numpy()
        if self.membrane is None:
            self.membrane = np.zeros(values.shape[1:], np.float32)
        out = np.empty((steps, values.shape[1], values.shape[3]), np.float32)
        self.total = np.zeros(out.shape[1:], np.float32)
        rows = np.linspace(0, values.shape[1], torch.get_num_threads() + 1).astype(int)
        ranges = list(pairwise(rows))
        with ThreadPoolExecutor(len(ranges)) as pool:
            each = map if len(ranges) == 1 else pool.map
            own = (values, self.membrane, self.decays, self.limits, out, self.total)
            list(each(lambda some: _scan(*own, *some), ranges))
        self.place = (*last.shape[1:-1], shape[1] // 2)
        return torch.from_numpy(out).view(steps, *self.place).movedim(-1, 2)

    def counts(self, spikes: Tensor) -> Tensor:
        """Of the steps that gave ``spikes`` [T, N, ...]: [N, ...]; the scan has counted them."""
        return torch.from_numpy(self.total).view(self.place).movedim(-1, 1)


@numba.njit(cache=True, nogil=True)
def _scan(current, membrane, decays, limits, out, total, begin, end):
    """Rows begin to end of currents [T or 1, rows, 2, C]; membranes [rows, 2, C] in place.

    Spikes [T, rows, C] are left in ``out``, and added up in ``total`` [rows, C].
    """
    one, zero = np.float32(1), np.float32(0)
    (keep, hold), (low, high), size = decays, limits, out.shape[2]
    for row in range(begin, end):
        for t in range(len(out)):
            at = min(t, len(current) - 1)
            for c in range(size):
                fast = membrane[row, 0, c] * keep + current[at, row, 0, c]
                slow = membrane[row, 1, c] * hold + current[at, row, 1, c]
                first = one if fast >= low else zero
                second = one if slow >= high else zero
                membrane[row, 0, c] = fast - low * first
                membrane[row, 1, c] = slow - high * second
                spike = max(first, second)
                out[t, row, c] = spike
                total[row, c] += spike


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
