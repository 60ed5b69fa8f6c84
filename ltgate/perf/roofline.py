"""The roofline of the GPU path: bytes and operations counted, against ceilings measured.

A kernel cannot be faster than its bytes through memory, nor than its operations in the matrix
units; kernels run one after the other. The scans' own additions and comparisons are left out: they
cost less than the bytes beside them.
"""

from math import prod
from typing import NamedTuple

import torch

from ltgate.network import KERNEL, Network
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


def count_bytes_and_operations(network: Network, batch: int, steps: int) -> list[Kernel]:
    """What :mod:`ltgate.backends.gpu` moves and computes for ``batch`` images and T ``steps``."""
    compartments = network.dynamics.compartments
    kernels = []
    for index, layer in enumerate(network.layers):
        inputs, weights = prod(layer.in_shape), layer.weight.numel()
        times = batch * steps if index else batch  # the first layer's current is constant
        taps = layer.in_shape[0] * KERNEL**2 if layer.is_conv else inputs
        currents = compartments * layer.neurons * times
        moved = _FLOAT32 * (inputs * times + weights + currents)
        kernels.append(Kernel(f"{layer.name} currents", moved, 2 * taps * currents))
        spikes, counts = layer.neurons * batch * steps, layer.neurons * batch
        kernels.append(Kernel(f"{layer.name} scan", _FLOAT32 * (currents + spikes + counts), 0))
    return kernels


def seconds(kernels: list[Kernel], ceilings: Ceilings) -> float:
    """Least time of kernels that run one after the other (s)."""
    return sum(
        max(
            kernel.bytes / ceilings.bytes_per_second,
            kernel.operations / ceilings.operations_per_second,
        )
        for kernel in kernels
    )


def ceilings(device: str, mebibytes: int = 1024, side: int = 8192, repeats: int = 10) -> Ceilings:
    """Measured: a copy, and a product of random float32 matrices (as TF32 on a GPU)."""
    source = torch.randint(0, 256, (mebibytes << 20,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    left, right = (torch.randn(side, side, device=device) for _ in range(2))
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
