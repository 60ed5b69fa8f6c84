"""Other ways to compute the same network: dense convolutions, alone or with a scan; libraries.

The strongest exact dense program that we know is PyTorch's float32 convolutions of some frames of
some images, whose buffers stay in the cache, and a compiled scan of both compartments over them
(:class:`_Scanned`). The libraries are optional (the extra ``peers``). Each gets two populations per
layer, both compartments' channels, the same weights, thresholds and images, and computes the first
layer's constant current once. SpikingJelly gives the same spikes as ours; snnTorch's reset acts one
step later.
"""

import importlib.metadata
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from ltgate.network import Layer
from ltgate.perf.bench import RATE, Workload

Counts = dict[str, Tensor]

# Settings tried, the usual best first: images and steps at once (0 = all; a layer does that many
# steps before the next layer does), and the layout. The fastest differs between machines.
DENSE = "dense float32 convolutions alone"
SCAN = "dense float32 convolutions and a compiled scan"
_OTHER = torch.contiguous_format
SETTINGS: dict[str, list[tuple]] = {
    DENSE: [(8, 20), (32, 5), (4, 20), (8, 20, _OTHER), (32, 5, _OTHER)],
    SCAN: [(4, 20), (8, 20), (2, 40), (32, 5)],
    "spikingjelly": [(4, 0), (2, 0), (8, 0), (32, 0)],
    "snntorch": [(32, 1), (32, 0), (8, 0)],
}


def installed(name: str) -> str:
    """What the table calls ``name``, with its version; empty when the library is not there."""
    if name in (DENSE, SCAN):
        return name
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


class _Currents:
    """Dense currents of one layer, both compartments' channels."""

    def __init__(
        self,
        layer: Layer,
        layout: torch.memory_format = torch.channels_last,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.layer, self.layout = layer, layout
        self.weight = layer.forward_weight.flatten(0, 1).to(dtype)
        if layer.is_conv:
            self.weight = self.weight.to(memory_format=layout)

    def current(self, inputs: Tensor) -> Tensor:
        """Currents [N, populations x channels, ...] of inputs [N, ...]."""
        if not self.layer.is_conv:
            return functional.linear(inputs.flatten(1), self.weight)[:, :, None, None]
        inputs = inputs.contiguous(memory_format=self.layout)
        return functional.conv2d(inputs, self.weight, stride=self.layer.stride, padding=1)


def convolutions(
    workload: Workload,
    images: int = 8,
    steps: int = 20,
    layout: torch.memory_format = torch.channels_last,
    dtype: torch.dtype = torch.float32,
) -> Callable[[], None]:
    """All layers' dense currents for a batch, without neurons: no state, no spikes to count.

    Time is folded into the batch; ``images`` and ``steps`` are worked on at once, so that buffers
    stay in the cache. Inputs are random 0/1 at the network's rate: dense work does not depend on
    them. The first layer's current is computed once per image.
    """
    batch, total = len(workload.images), len(workload.steps)
    images, steps = min(images, batch), min(steps, total)
    generator = torch.Generator().manual_seed(0)
    work = []
    for index, layer in enumerate(workload.network.layers):
        number = images * steps if index else batch
        spikes = torch.rand(number, *layer.in_shape, generator=generator) < RATE
        inputs = spikes.to(workload.device, dtype)
        inputs = inputs.to(memory_format=layout) if layer.is_conv else inputs.flatten(1)
        work.append(partial(_Currents(layer, layout, dtype).current, inputs))

    @torch.no_grad()
    def run() -> None:
        work[0]()
        for _ in range(-(-batch // images) * -(-total // steps)):
            for current in work[1:]:
                current()

    return run


def forward(name: str, workload: Workload, images: int, steps: int) -> Callable[[], Counts]:
    """A forward pass in library ``name``; it returns the spike counts of every layer.

    Args:
        name: A name in ``SETTINGS``, but ``DENSE``.
        workload: Raw current, ``or``, reset by subtraction, one threshold per layer.
        images, steps: Worked on at once; 0 steps = all.
    """
    decays = workload.network.dynamics.decay(workload.steps.dt_ms)
    kinds = {
        SCAN: _Scanned,
        "spikingjelly": partial(_Populations, _spikingjelly),
        "snntorch": partial(_Populations, _SnnTorch),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old ways of PyTorch that these libraries use
        layers = [kinds[name](layer, decays) for layer in workload.network.layers]
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
            spikes, count = layer.spikes(current)
            counts[index] = counts[index] + count
            for following in layers[index + 1 : index + 2]:
                current = following.current(spikes.flatten(0, 1)).unflatten(0, (steps, -1))
    return counts


class _Populations(_Currents):
    """One layer of a library's populations, one for each compartment."""

    def __init__(self, kind: Callable, layer: Layer, decays: np.ndarray) -> None:
        super().__init__(layer)
        thresholds = layer.threshold[:, 0].tolist()
        self.populations = [kind(*both) for both in zip(decays.tolist(), thresholds, strict=True)]

    def start(self) -> None:
        """State at rest."""
        for population in self.populations:
            population.reset()

    def spikes(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes [T, N, channels, ...] of currents [T, N, populations x channels, ...], and their
        sum over time."""
        parts = current.chunk(len(self.populations), 2)
        found = [population(part) for population, part in zip(self.populations, parts, strict=True)]
        spikes = found[0] if len(found) == 1 else torch.maximum(*found)
        return spikes, spikes.sum(0) if len(spikes) > 1 else spikes[0]


def _spikingjelly(decay: float, threshold: float) -> torch.nn.Module:
    """``LIFNode`` in multi-step mode: v <- v (1 - 1/tau) + I, reset by subtraction."""
    from spikingjelly.activation_based.neuron import LIFNode

    return LIFNode(  # its backend is PyTorch, unless told otherwise
        tau=1 / (1 - decay), decay_input=False, v_threshold=threshold, v_reset=None, step_mode="m"
    ).eval()


class _SnnTorch:
    """``Leaky``: v <- decay v + I - threshold (last spike)."""

    def __init__(self, decay: float, threshold: float) -> None:
        from snntorch import Leaky

        self.node = Leaky(beta=decay, threshold=threshold, reset_mechanism="subtract").eval()

    def reset(self) -> None:
        self.membrane = self.node.reset_mem()

    def __call__(self, current: Tensor) -> Tensor:
        spikes = []
        for step in current.unbind(0):
            spike, self.membrane = self.node(step, self.membrane)
            spikes.append(spike)
        return torch.stack(spikes) if len(spikes) > 1 else spikes[0][None]


class _Scanned(_Currents):
    """One layer whose two compartments a compiled loop takes through some steps."""

    def __init__(self, layer: Layer, decays: np.ndarray) -> None:
        super().__init__(layer)
        self.decays = decays
        self.limits = layer.threshold[:, 0].numpy()

    def start(self) -> None:
        """State at rest."""
        self.membrane: np.ndarray | None = None

    def spikes(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`_Populations.spikes`."""
        steps, channels = len(current), current.shape[2] // 2
        if current.stride(0) == 0:  # the same in every step
            current = current[:1]
        last = current.movedim(2, -1).contiguous()
        values = last.reshape(len(current), -1, 2, channels).numpy()
        if self.membrane is None:
            self.membrane = np.zeros(values.shape[1:], np.float32)
        out = np.empty((steps, values.shape[1], channels), np.float32)
        total = np.zeros(out.shape[1:], np.float32)
        rows = np.linspace(0, values.shape[1], torch.get_num_threads() + 1).astype(int)
        scan = partial(_scan, values, self.membrane, self.decays, self.limits, out, total)
        if len(rows) == 2:
            scan(*rows)
        else:
            with ThreadPoolExecutor(len(rows) - 1) as pool:
                list(pool.map(scan, rows[:-1], rows[1:]))
        place = (*last.shape[1:-1], channels)
        spikes = torch.from_numpy(out).view(steps, *place).movedim(-1, 2)
        return spikes, torch.from_numpy(total).view(place).movedim(-1, 1)


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
