"""Run compiled kernels on arrays that lie between pages which nobody may touch.

Vector loads and stores check no index, and numba's bounds checking does not see them. With every
array of a call moved to the end (or the start) of its pages, one byte read or written beyond it
ends the process with SIGSEGV. Run as a script: ``fences.py end|start SEEDS``, which names the
kernels as it comes to them, or ``fences.py end|start beyond`` to see that it does.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

PAGE = mmap.PAGESIZE
_NO_ACCESS = 0


def fenced(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy that ends (or begins) at a page without access."""
    pages = max(1, -(-array.nbytes // PAGE))
    memory = np.frombuffer(mmap.mmap(-1, (pages + 2) * PAGE), np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for page in (0, pages + 1):
        if protect(ctypes.c_void_p(memory.ctypes.data + page * PAGE), PAGE, _NO_ACCESS):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = (pages + 1) * PAGE - array.nbytes if at_end else PAGE
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def guarded(kernel: Callable, at_end: bool) -> Callable:
    """``kernel`` on fenced copies of its arrays, also of those in tuples; they are copied back."""

    def call(*arguments: Any) -> Any:
        moved = []

        def move(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                moved.append((value, fenced(value, at_end)))
                return moved[-1][1]
            return type(value)(*map(move, value)) if hasattr(value, "_fields") else value

        result = kernel(*map(move, arguments))
        for original, copy in moved:
            original[...] = copy
        return result

    return call


def _event(seed: int) -> dict:
    from test_backend_cpu import OPTIONS, clock, network, pictures

    from ltgate.backends import event
    from ltgate.neurons import Dynamics

    random = np.random.default_rng(seed)
    event.BLOCK_STEPS = (7, 256)[seed % 2]
    depth, shape = seed % 4, tuple(random.integers((1, 2, 2), (4, 11, 11)).tolist())
    made = network(
        random, Dynamics(*OPTIONS[seed % len(OPTIONS)]), random.integers(1, 71, depth).tolist(),
        random.integers(1, 4, depth).tolist(),
        random.integers(1, 71, random.integers(not depth, 3)).tolist(), shape,
    )  # fmt: skip
    decays = np.array([0.8, (0.8, 0.5)[seed % 3 == 0]], np.float32)[: made.compartments]
    images, steps = pictures(random, 2, shape), clock(20, drive=random.integers(0, 3, 20))
    found = event.forward(made, images, steps, decays, tuple(made.names))
    return {**found.counts, **{f"{name} update": x for name, x in found.updates.items()}}


def _twin(seed: int) -> dict:
    import loihi_reference as reference

    from ltgate.loihi import twin

    random = np.random.default_rng(seed)
    net = reference.draw(random, channels=1 + seed % 3)
    images, drive = reference.images(random, net, 2), reference.drive(random, 20)
    return twin.forward(net, images, drive, tuple(net.names)).counts


def _gradients(seed: int) -> dict:
    from test_backend_cpu import OPTIONS, clock, network, pictures

    from ltgate import surrogate
    from ltgate.neurons import Dynamics

    random = np.random.default_rng(seed)
    depth, shape = seed % 3, tuple(random.integers((1, 2, 2), (4, 9, 9)).tolist())
    made = network(
        random, Dynamics(*OPTIONS[seed % len(OPTIONS)]), random.integers(1, 40, depth).tolist(),
        random.integers(1, 3, depth).tolist(), [int(random.integers(1, 40))], shape,
    )  # fmt: skip
    sizes = {layer.name: layer.neurons for layer in made.layers}
    steps = clock(12, drive=random.integers(0, 3, 12))
    found = surrogate.loss_and_gradients(
        made, pictures(random, 2, shape), np.zeros(2, int), steps,
        surrogate.LinearHead.drawn(sizes, 2, random), engine="compiled",
    )  # fmt: skip
    return {**found.counts, **{f"{name} gradient": x for name, x in found.weights.items()}}


def beyond(at_end: bool) -> None:
    """All elements, and then one too many at that end."""
    from numba import njit

    from ltgate.backends.simd import load16, store

    @njit
    def shift(array, by):
        store(array, by, load16(array, by) + load16(array, by))

    array, guard = np.zeros(16, np.float32), guarded(shift, at_end)
    guard(array, 0)
    print("inside", flush=True)
    guard(array, 1 if at_end else -1)


def _kernels() -> list[tuple[Any, str]]:
    from ltgate.backends import event
    from ltgate.surrogate import tiles

    names = {
        event: ("run", "pack", "unpack", "keep_traces", "update_dense"),
        tiles: ("find_live", "forward", "backward", "spread"),
    }
    return [(module, name) for module, some in names.items() for name in some]


if __name__ == "__main__":
    torch.set_num_threads(1)
    at_end = sys.argv[1] == "end"
    if sys.argv[2] == "beyond":
        beyond(at_end)
    cases = [
        (show, seed) for show in (_event, _twin, _gradients) for seed in range(int(sys.argv[2]))
    ]
    free = [show(seed) for show, seed in cases]
    for module, name in _kernels():
        setattr(module, name, guarded(getattr(module, name), at_end))
    for (show, seed), wanted in zip(cases, free, strict=True):
        print(show.__name__, seed, flush=True)
        found = show(seed)
        for name, value in wanted.items():
            assert torch.equal(found[name], value), name
