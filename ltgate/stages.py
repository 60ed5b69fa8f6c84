"""Named stages of work: labels in torch's profiler, and sums of their wall time.

``with stage("readout"): ...`` labels a block, ``@stage("weight update")`` a function. A label costs
some microseconds; times are taken only within :func:`seconds_by_stage`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.profiler import record_function

# Sums of the block that is being measured, and the device to wait for.
_measured: ContextVar[tuple[dict[str, float], str] | None] = ContextVar("stages", default=None)


def wait(device: str = "cpu") -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Label a block or a function; stages are meant to lie side by side, not inside each other."""
    with record_function(name):
        measured = _measured.get()
        if measured is None:
            yield
            return
        sums, device = measured
        wait(device)
        start = time.perf_counter()
        yield
        wait(device)
        sums[name] = sums.get(name, 0.0) + time.perf_counter() - start


@contextmanager
def seconds_by_stage(device: str = "cpu") -> Iterator[dict[str, float]]:
    """Wall time (s) of every stage in the block, summed by name; waits at every boundary."""
    sums: dict[str, float] = {}
    before = _measured.set((sums, device))
    try:
        yield sums
    finally:
        _measured.reset(before)
