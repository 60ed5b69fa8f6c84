r"""GPU path: convolutions by PyTorch, membranes in the registers of fused Triton kernels.

Time is cut into chunks. For each chunk and layer, with time folded into the batch, channels last:

1. one convolution or matrix product gives the currents of all steps;
2. :func:`scan`: one program runs a tile of neurons of one image (positions x channels) through the
   chunk. Membranes, spike counts and crossings stay in registers, and the spikes leave as the next
   convolution wants them;
3. when learning, :func:`trace` writes the presynaptic traces, and one weight-gradient call
   correlates them with the spikes. The first layer's input is its image times a number per step, so
   it needs no traces: sum_t g_c[t] post[t], with g_c[t] = decay_c g_c[t-1] + drive[t], is one
   matrix product, and is correlated with the image once.

Which kernels a batch needs depends on shapes alone: they are captured as one CUDA graph per shape.

**What is exact.** By default spikes are those of every other backend, bit for bit. Weights have 11
significant bits and inputs are 0 or 1, so TF32 represents both, and all sums fit float32. Whether a
device really adds them exactly is tried once for each shape against float64 (tensor cores may cut
bits off; a library may choose a convolution by transforms); if not, plain float32 is tried, and
float64 is the last resort. Updates are float32 sums, in a fixed order on one device. With
``mixed``, spikes and currents are float16: weights and products stay exact, but currents (and
partial sums, if a library splits them) are rounded to 11 significant bits, so single spikes may
differ; updates multiply in TF32, which keeps 11 bits of the traces.

Unmeasured: so far this has run on Triton's interpreter only (TRITON_INTERPRET=1, on the CPU), and
the kernels were compiled for a GPU but not run on one. Sizes of tiles and chunks are guesses.
"""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
import triton
import triton.language as tl
from torch import Tensor

from ltgate.backends import Activity, portable, trace_response
from ltgate.data.tasks import Schedule
from ltgate.network import GRID, LARGEST, Layer, Network
from ltgate.neurons import COMPILED, Dynamics

NAME = "gpu"
TILE = 512  # neurons of one program
COLUMNS = 128  # channels of one program, at most
STAGES = 4  # steps whose loads are under way at the same time
CACHE_SHARE = 0.6  # of the L2 cache, for one layer's inputs and currents of one chunk
SHORTEST, UNCACHED = 8, 16  # steps of a chunk: fewest worth keeping in the cache, else this many
GRAPHS = 8  # captured graphs kept


def takes(dynamics: Dynamics, streamed: bool) -> bool:
    """Still images, and the neurons of the compiled backends."""
    known = dynamics.output in COMPILED and dynamics.compartments <= 2
    return known and dynamics.follows == "nothing" and not streamed


def available(device: str) -> bool:
    """CUDA devices; the CPU only under Triton's interpreter, for tests."""
    if device == "cpu":
        return triton.knobs.runtime.interpret
    return device.startswith("cuda") and torch.cuda.is_available()


# A chunk of time steps in registers. Loads do not depend on the state, so the compiler issues those
# of the next STAGES - 1 steps ahead. Launched with ``enable_fp_fusion=False``: multiplications and
# additions must round separately, in the order of ``neurons.step``. All is channels last.


@triton.jit
def scan(
    current, drive, coefficients, threshold, gate, membrane, counts, crossings, spikes,
    steps, size, positions, channels,
    FIRST: tl.constexpr, COMPARTMENTS: tl.constexpr, BLEND: tl.constexpr, SUBTRACT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Run ROWS positions x COLUMNS channels of one image through ``steps`` steps.

    ``current`` [steps, B, positions, COMPARTMENTS, channels]; of the FIRST layer only one step,
    which ``drive`` [steps] multiplies. ``spikes`` [steps, B, positions, channels]; ``size`` is the
    number of values in one of its steps. State is laid out as one step of current or spikes.
    """
    tiles = tl.cdiv(positions, ROWS)
    image = tl.program_id(0) // tiles
    row = (tl.program_id(0) % tiles) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (row < positions) & (channel < channels)
    site = image * positions + row
    neuron = site * channels + channel
    fast = site * COMPARTMENTS * channels + channel
    slow = fast + channels

    decay0, gain0 = tl.load(coefficients), tl.load(coefficients + COMPARTMENTS)
    theta0 = tl.load(threshold + channel, mask=channel < channels, other=1.0)
    v0 = tl.load(membrane + fast, mask=inside, other=0.0)
    count = tl.zeros([ROWS, COLUMNS], tl.int32)
    count0 = tl.zeros([ROWS, COLUMNS], tl.int32)
    if COMPARTMENTS == 2:
        decay1, gain1 = tl.load(coefficients + 1), tl.load(coefficients + 3)
        v1 = tl.load(membrane + slow, mask=inside, other=0.0)
        count1 = tl.zeros([ROWS, COLUMNS], tl.int32)
        if BLEND:
            theta1 = theta0
            gamma = tl.load(gate + channel, mask=channel < channels, other=0.0)
            rest = 1.0 - gamma
        else:
            theta1 = tl.load(threshold + channels + channel, mask=channel < channels, other=1.0)
    if FIRST:
        fixed0 = tl.load(current + fast, mask=inside, other=0.0)
        if COMPARTMENTS == 2:
            fixed1 = tl.load(current + slow, mask=inside, other=0.0)

    for t in tl.range(0, steps, num_stages=STAGES):
        if FIRST:
            now = tl.load(drive + t)
            current0 = now * fixed0
            if COMPARTMENTS == 2:
                current1 = now * fixed1
        else:
            current0 = tl.load(current + fast, mask=inside, other=0.0).to(tl.float32)
            if COMPARTMENTS == 2:
                current1 = tl.load(current + slow, mask=inside, other=0.0).to(tl.float32)
            current += size * COMPARTMENTS
        v0 = v0 * decay0
        v0 = v0 + current0 * gain0
        crossed0 = (v0 >= theta0) & inside
        spike = crossed0
        count0 += crossed0.to(tl.int32)
        if COMPARTMENTS == 2:
            v1 = v1 * decay1
            v1 = v1 + current1 * gain1
            crossed1 = (v1 >= theta1) & inside
            count1 += crossed1.to(tl.int32)
            if BLEND:
                blended = gamma * v0
                blended = blended + rest * v1
                spike = (blended >= theta0) & inside
                crossed0, crossed1 = spike, spike
            else:
                spike = crossed0 | crossed1
            v1 = tl.where(crossed1, v1 - theta1 if SUBTRACT else 0.0, v1)
        v0 = tl.where(crossed0, v0 - theta0 if SUBTRACT else 0.0, v0)
        count += spike.to(tl.int32)
        tl.store(spikes + neuron, spike.to(spikes.dtype.element_ty), mask=inside)
        spikes += size

    tl.store(membrane + fast, v0, mask=inside)
    tl.store(counts + neuron, tl.load(counts + neuron, mask=inside) + count, mask=inside)
    sums = crossings + image * COMPARTMENTS * channels + channel
    tl.atomic_add(sums, tl.sum(count0, 0)[None, :], mask=channel < channels)
    if COMPARTMENTS == 2:
        tl.store(membrane + slow, v1, mask=inside)
        tl.atomic_add(sums + channels, tl.sum(count1, 0)[None, :], mask=channel < channels)


@triton.jit
def trace(
    inputs, decays, state, traces, steps, size, channels,
    TRACES: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """x_c[t] = decays_c x_c[t-1] + inputs[t]: ``inputs`` [steps, size / channels, channels] to
    ``traces`` [steps, size / channels, TRACES, channels], from and to ``state``, one step of it."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < size
    at = (n // channels * TRACES + tl.program_id(1)) * channels + n % channels
    decay = tl.load(decays + tl.program_id(1))
    x = tl.load(state + at, mask=inside, other=0.0)
    for _ in tl.range(0, steps, num_stages=STAGES):
        x = x * decay
        x = x + tl.load(inputs + n, mask=inside, other=0.0).to(tl.float32)
        tl.store(traces + at, x, mask=inside)
        inputs += size
        traces += size * TRACES
    tl.store(state + at, x, mask=inside)


# currents


@contextmanager
def _float32(precision: str):
    """Multiply float32 as ``tf32`` or ``ieee`` on GPUs, with deterministic algorithms."""
    backends = torch.backends
    conv, matmul = backends.cudnn.conv, backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision, backends.cudnn.deterministic
    conv.fp32_precision = matmul.fp32_precision = precision
    backends.cudnn.deterministic = True
    try:
        yield
    finally:
        conv.fp32_precision, matmul.fp32_precision, backends.cudnn.deterministic = before


def _currents(inputs: Tensor, weight: Tensor, stride: int, arithmetic: str) -> Tensor:
    """:func:`portable.currents`, channels last: [N, H, W, in] to [N, height, width, C out].

    ``weight`` is [C out, in, 3, 3], or [C out, H W in] with ``stride`` 0. ``arithmetic`` is
    ``tf32``, ``ieee``, ``float64`` (returned as float32) or ``half`` (takes and returns float16).
    """
    if arithmetic == "float64":
        return _currents(inputs.double(), weight.double(), stride, "ieee").float()
    with _float32("tf32" if arithmetic == "tf32" else "ieee"):
        if not stride:
            return (inputs.flatten(1) @ weight.T)[:, None, None]
        found = functional.conv2d(inputs.permute(0, 3, 1, 2), weight, stride=stride, padding=1)
        return found.permute(0, 2, 3, 1).contiguous()


@cache
def exact_arithmetic(
    inputs: tuple[int, ...], weight: tuple[int, ...], stride: int, device: torch.device
) -> str:
    """The fastest arithmetic of :func:`_currents` that is exact for these shapes on this device.

    Tried on random 0/1 inputs and weights from the whole grid, half of them positive, so that sums
    grow large. Which algorithm a library runs depends on the shapes alone.
    """
    random = torch.Generator(device).manual_seed(0)
    pulses = torch.randint(0, 2, inputs, generator=random, device=device, dtype=torch.uint8).float()
    most = round(LARGEST / GRID)
    grid = torch.randint(-most, most + 1, weight, generator=random, device=device) * GRID
    grid[::2] = grid[::2].abs()
    if stride:
        grid = grid.contiguous(memory_format=torch.channels_last)
    for arithmetic in ("tf32", "ieee"):
        found = _currents(pulses, grid, stride, arithmetic).split(256)
        if all(
            torch.equal(part, _currents(few, grid, stride, "float64"))
            for few, part in zip(pulses.split(256), found, strict=True)
        ):
            return arithmetic
    return "float64"


# one layer, then the whole pass


class _Options(NamedTuple):
    """What fixes the kernels of a pass, beside shapes."""

    chunk: int
    traces: int  # how many different trace decays; 0 = not learning
    raster: tuple[str, ...]
    mixed: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of spikes and currents."""
        return torch.float16 if self.mixed else torch.float32


class _Stage:
    """One layer: its forward values, and its state for a batch. All channels last."""

    def __init__(
        self, layer: Layer, dynamics: Dynamics, pixels: Tensor, first: bool, options: _Options
    ) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(batch, *shape, dtype=dtype, device=pixels.device)

        batch, compartments, traces = len(pixels), dynamics.compartments, options.traces
        self.layer, self.dynamics, self.pixels = layer, dynamics, pixels
        self.first, self.options = first, options
        self.threshold, self.gate = layer.threshold.contiguous(), layer.forward_gate
        channels, height, width = layer.out_shape
        self.membrane = zeros(height, width, compartments * channels)
        self.counts = zeros(height, width, channels, dtype=torch.int32)
        self.crossings = zeros(compartments, channels, dtype=torch.int32)
        self.update: Tensor | float = 0.0
        if first:  # once per image, so float64 costs nothing; exact in float32
            self.weighted = zeros(height, width, channels).repeat(traces, 1, 1, 1, 1)
            exact = layer.forward_weight.double()
            constant = portable.currents(layer, pixels.double(), exact).float()
            self.constant = constant.permute(0, 3, 4, 1, 2).contiguous()
            return
        inputs, height, width = layer.in_shape
        self.trace = zeros(height, width, traces * inputs)
        weight = layer.forward_weight.flatten(0, 1).to(options.dtype)
        if layer.is_conv:
            self.weight = weight.contiguous(memory_format=torch.channels_last)
        else:
            self.weight = weight.unflatten(1, layer.in_shape).permute(0, 2, 3, 1).flatten(1)

    def advance(self, inputs: Tensor | None, drive: Tensor, coefficients: Tensor) -> Tensor:
        """Spikes [K, B, height, width, channels] of a chunk, from those of the layer below."""
        layer, dynamics, options = self.layer, self.dynamics, self.options
        (channels, height, width), batch = layer.out_shape, len(self.pixels)
        positions = height * width
        if self.first:
            current = self.constant
        else:
            folded = inputs.flatten(0, 1)
            key = tuple(folded.shape), tuple(self.weight.shape), layer.stride, folded.device
            arithmetic = "half" if options.mixed else exact_arithmetic(*key)
            current = _currents(folded, self.weight, layer.stride, arithmetic)
        spikes = torch.empty(
            len(drive), batch, height, width, channels, dtype=options.dtype, device=drive.device
        )
        columns = min(COLUMNS, triton.next_power_of_2(channels))
        rows = min(TILE // columns, triton.next_power_of_2(positions))
        scan[(batch * triton.cdiv(positions, rows), triton.cdiv(channels, columns))](
            current, drive, coefficients, self.threshold, self.gate, self.membrane, self.counts,
            self.crossings, spikes, len(drive), spikes[0].numel(), positions, channels,
            FIRST=self.first, COMPARTMENTS=dynamics.compartments, BLEND=dynamics.blended,
            SUBTRACT=dynamics.subtracts, ROWS=rows, COLUMNS=columns, STAGES=STAGES,
            enable_fp_fusion=False,
        )  # fmt: skip
        return spikes

    def learn(
        self, inputs: Tensor | None, spikes: Tensor, decays: Tensor, response: Tensor
    ) -> None:
        """Add a chunk's post x trace; ``response`` is g_c[t], the rest as in :meth:`advance`."""
        if self.first:
            with self._precision():
                summed = response @ spikes.flatten(1).float()
            self.weighted += summed.view(self.weighted.shape)
            return
        if not self.layer.is_conv:
            inputs = inputs.flatten(2)[:, :, None, None]  # one position
        count, size, channels = self.options.traces, inputs[0].numel(), inputs.shape[-1]
        traces = torch.empty(*inputs.shape[:-1], count * channels, device=inputs.device)
        trace[(triton.cdiv(size, TILE), count)](
            inputs, decays, self.trace, traces, len(inputs), size, channels,
            TRACES=count, BLOCK=TILE, STAGES=STAGES, enable_fp_fusion=False,
        )  # fmt: skip
        post = spikes.flatten(0, 1).float().permute(0, 3, 1, 2)
        self._correlate(traces.flatten(0, 1).permute(0, 3, 1, 2), post)

    def _precision(self):
        return _float32("tf32" if self.options.mixed else "ieee")

    def _correlate(self, traces: Tensor, post: Tensor) -> None:
        with self._precision():
            self.update += portable.correlate(self.layer, traces, post)

    def finished(self) -> Tensor:
        """The update, shaped like the weights."""
        weight, count = self.layer.weight, self.options.traces
        if self.first:
            self._correlate(self.pixels, self.weighted.permute(1, 0, 4, 2, 3).flatten(1, 2))
            each = self.update.unflatten(0, (count, -1))
        elif self.layer.is_conv:
            each = self.update.unflatten(1, (count, -1)).transpose(0, 1)
        else:
            channels, height, width = self.layer.in_shape
            each = self.update.unflatten(1, (count, height, width, channels)).permute(1, 0, 4, 2, 3)
        return each.reshape(count, *weight.shape[1:]).expand(weight.shape)


def _pass(
    network: Network,
    images: Tensor,
    drive: Tensor,
    coefficients: Tensor,
    response: Tensor,
    options: _Options,
) -> Activity:
    """The kernels of one batch. Which ones depends on shapes and ``options``, never on values.

    ``coefficients`` is decay [C], gain [C], trace decay [traces]; ``response`` is g_c[t].
    """
    pixels = network.pixels(images)
    stages = [
        _Stage(layer, network.dynamics, pixels, not index, options)
        for index, layer in enumerate(network.layers)
    ]
    activity = Activity(steps=len(drive))
    for layer in network.layers:
        if layer.name in options.raster:
            shape = (len(drive), len(images), *layer.out_shape)
            activity.rasters[layer.name] = torch.empty(
                shape, dtype=torch.uint8, device=images.device
            )
    for start in range(0, len(drive), options.chunk):
        part = slice(start, start + options.chunk)
        spikes = None
        for stage in stages:
            inputs = spikes
            spikes = stage.advance(inputs, drive[part], coefficients)
            if options.traces:
                decays = coefficients[-options.traces :]
                stage.learn(inputs, spikes, decays, response[:, part])
            if stage.layer.name in activity.rasters:
                activity.rasters[stage.layer.name][part] = spikes.permute(0, 1, 4, 2, 3)
    for stage in stages:
        name = stage.layer.name
        activity.counts[name] = stage.counts.permute(0, 3, 1, 2)
        activity.crossings[name] = stage.crossings.long()
        if options.traces:
            activity.updates[name] = stage.finished()
    return activity


class _Graph:
    """:func:`_pass` captured for one set of shapes, on inputs of its own."""

    pool = None  # one pool of memory: graphs never run at the same time

    def __init__(self, network: Network, values: list[Tensor], options: _Options) -> None:
        self.network, self.values = network.clone(), [value.clone() for value in values]
        self.replay, self.activity = self._capture(options)

    def _capture(self, options: _Options) -> tuple[Callable[[], None], Activity]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles kernels, chooses arithmetic
            _pass(self.network, *self.values, options)
        torch.cuda.current_stream().wait_stream(stream)
        _Graph.pool = _Graph.pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=_Graph.pool):
            activity = _pass(self.network, *self.values, options)
        return graph.replay, activity

    def __call__(self, network: Network, values: list[Tensor]) -> Activity:
        own = [*self.network.state_dict().values(), *self.values]
        for mine, given in zip(own, [*network.state_dict().values(), *values], strict=True):
            mine.copy_(given)
        self.replay()
        return self.activity


_graphs: OrderedDict[tuple, _Graph] = OrderedDict()


def _captured(network: Network, values: list[Tensor], options: _Options) -> Activity:
    layers = tuple((x.name, x.stride, x.in_shape, x.out_shape) for x in network.layers)
    shapes = tuple(tuple(value.shape) for value in values)
    key = (network.dynamics, layers, shapes, values[0].device, options)
    if key not in _graphs:
        if len(_graphs) >= GRAPHS:
            _graphs.popitem(last=False)
        _graphs[key] = _Graph(network, values, options)
    _graphs.move_to_end(key)
    return _graphs[key](network, values)


def _chunk(network: Network, batch: int, steps: int, element: int, device: torch.device) -> int:
    """Steps of a chunk: those whose inputs and currents of any layer stay in the L2 cache."""
    if device.type != "cuda":
        return min(steps, SHORTEST)
    compartments = network.dynamics.compartments
    layers = network.layers[1:] or network.layers  # the first one's current is computed once
    values = max(int(np.prod(x.in_shape)) + compartments * x.neurons for x in layers)
    cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    fitting = int(CACHE_SHARE * cache_bytes) // (values * batch * element)
    return min(steps, fitting if fitting >= SHORTEST else UNCACHED)


@torch.no_grad()
def forward(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    trace_decay: np.ndarray | None = None,
    raster: tuple[str, ...] = (),
    mixed: bool = False,
    cuda_graphs: bool = True,
    chunk_steps: int = 0,
) -> Activity:
    """See :func:`ltgate.backends.forward`; runs on the device of the network's weights.

    Memory is flat in T and grows with the batch.

    Args:
        mixed: float16 spikes and currents: faster, not exact (see the head of this module).
        cuda_graphs: Capture the launches of a batch once for each shape, and replay them.
        chunk_steps: Steps of a chunk; 0 fits them to the device's cache.
    """
    dynamics, drive = network.dynamics, schedule.drive
    device = network.layers[0].weight.device
    decays, response = trace_response(trace_decay, drive)
    coefficients = np.concatenate(
        [dynamics.decay(schedule.dt_ms), dynamics.gain(schedule.charge_ms), decays]
    )
    values = [torch.as_tensor(x).to(device) for x in (images, drive, coefficients, response)]
    chunk = chunk_steps or _chunk(network, len(images), len(drive), 2 if mixed else 4, device)
    options = _Options(chunk, len(decays), tuple(raster), mixed)
    with torch.cuda.device_of(values[0]):
        if cuda_graphs and device.type == "cuda":
            activity = _captured(network, values, options)
        else:
            activity = _pass(network, *values, options)
        whole = torch.contiguous_format  # copies, since a graph writes to the same place again
        return Activity(
            activity.steps,
            *(
                {name: value.clone(memory_format=whole) for name, value in field.items()}
                for field in (activity.counts, activity.crossings, activity.updates)
            ),
            {name: value.to("cpu", copy=True) for name, value in activity.rasters.items()},
        )
