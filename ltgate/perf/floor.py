"""The floor of the GPU path: bytes and operations counted, against ceilings measured.

A kernel cannot be faster than its bytes through memory, nor than its operations in the matrix
units; kernels run one after the other. The scans' own additions and comparisons are left out: they
cost less than the bytes beside them.
"""

from math import prod
from typing import NamedTuple

import torch

from ltgate.network import KERNEL, Layer, Network
from ltgate.perf import timing

_FLOAT32 = 4


class Kernel(NamedTuple):
    """Work of one kind in a whole batch.

    Attributes:
        name: Layer and work, as in ``conv2 scan``.
        bytes: Each tensor it takes read once, each tensor it makes written once.
        operations: Multiplications and additions of convolutions and matrix products.
    """

    name: str
    bytes: int
    operations: int


class Ceilings(NamedTuple):
    """What a device reaches.

    Attributes:
        bytes_per_second: Copying, bytes read plus bytes written.
        operations_per_second: Multiplying two large matrices.
    """

    bytes_per_second: float
    operations_per_second: float


def multiply_adds(layer: Layer) -> int:
    """Of all compartments, for one image and step."""
    taps = layer.in_shape[0] * KERNEL**2 if layer.is_conv else prod(layer.in_shape)
    return layer.weight.shape[0] * layer.neurons * taps


def count_bytes_and_operations(
    network: Network, batch: int, steps: int, traces: int = 0, element: int = _FLOAT32
) -> list[Kernel]:
    """What :mod:`ltgate.backends.gpu` moves and computes for one batch.

    Args:
        network: Gives the sizes.
        batch: Images.
        steps: T.
        traces: Different trace decays; 0 = no local update.
        element: Bytes of a spike and of a current: 4, or 2 with mixed precision.
    """
    compartments, shown = network.dynamics.compartments, batch * steps
    kernels = []
    for index, layer in enumerate(network.layers):
        inputs, neurons, weights = prod(layer.in_shape), layer.neurons, layer.weight.numel()
        times, size = (shown, element) if index else (batch, _FLOAT32)  # constant current
        operations = 2 * multiply_adds(layer) * times
        currents = compartments * neurons * size * times
        work = [("currents", inputs * size * times + weights * size + currents, operations)]
        summed = traces * neurons * _FLOAT32 * batch if not index else 0
        counts = neurons * _FLOAT32 * batch
        work.append(("scan", currents + neurons * element * shown + counts + summed, 0))
        if traces:
            taken = traces * inputs * _FLOAT32 * times  # of the first layer: its image
            if index:
                work.append(("traces", inputs * element * times + taken, 0))
                post = neurons * element * times
            else:
                taken, post = inputs * _FLOAT32 * batch, summed
            update = weights // compartments * traces * _FLOAT32
            work.append(("update", taken + post + update, operations * traces // compartments))
        kernels += [Kernel(f"{layer.name} {name}", *counted) for name, *counted in work]
    return kernels


def least(network: Network, batch: int, steps: int, traces: int = 0) -> Kernel:
    """The same batch in one kernel that keeps all spikes and currents to itself: what any dense
    program must at least move (images, weights, counts, updates) and compute."""
    inputs = batch * prod(network.layers[0].in_shape)  # one byte each
    counts = batch * sum(layer.neurons for layer in network.layers)
    weights = sum(layer.weight.numel() for layer in network.layers)
    updates = weights // network.dynamics.compartments * traces
    operations = sum(
        kernel.operations for kernel in count_bytes_and_operations(network, batch, steps, traces)
    )
    return Kernel("all", inputs + _FLOAT32 * (counts + weights + updates), operations)


def seconds(kernels: list[Kernel], ceilings: Ceilings) -> float:
    """Least time of kernels that run one after the other (s)."""
    return sum(
        max(
            kernel.bytes / ceilings.bytes_per_second,
            kernel.operations / ceilings.operations_per_second,
        )
        for kernel in kernels
    )


def ceilings(
    device: str,
    dtype: torch.dtype = torch.float32,
    mebibytes: int = 1024,
    side: int = 8192,
    repeats: int = 10,
) -> Ceilings:
    """Measured: a copy, and a product of random matrices (float32 as TF32 on a GPU)."""
    source = torch.randint(0, 256, (mebibytes << 20,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    try:
        work = {
            "copy": lambda: target.copy_(source),
            "product": lambda: torch.matmul(left, right, out=product),
        }
        found = timing.interleaved(work, repeats, device)
    finally:
        matmul.fp32_precision = before
    return Ceilings(2 * source.numel() / found["copy"], 2 * side**3 / found["product"])
