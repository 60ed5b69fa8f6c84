"""Peak memory of a piece of work: of a fresh process, or of the GPU."""

import ctypes
import gc
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from ltgate.perf import fresh


class Peak(NamedTuple):
    """Resident memory of a process around one call (bytes).

    Attributes:
        start: Before the call.
        highest: The most during the call.
    """

    start: int
    highest: int

    @property
    def above_start(self) -> int:
        """What the call itself needed."""
        return self.highest - self.start


def peaks(
    function: Callable[..., object],
    warm: tuple,
    arguments: Sequence[tuple],
    threads: int = 0,
) -> list[Peak]:
    """Peak memory of ``function(*a)`` for each ``a``, one after the other in one fresh process.

    ``warm`` are the arguments of a first, small call that loads whatever the work loads once.
    Without Linux's resettable peak, give the arguments from small to large.
    """
    return fresh.call(_peaks, function, warm, list(arguments), threads=threads)


def _peaks(function: Callable[..., object], warm: tuple, arguments: list[tuple]) -> list[Peak]:
    function(*warm)
    found = []
    for values in arguments:
        start = _settled()
        function(*values)
        found.append(Peak(start, _highest()))
    return found


def on_gpu(work: Callable[[], object]) -> int:
    """Peak memory that PyTorch allocates on the GPU in one call, above the start (bytes)."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - start


def own() -> int:
    """Highest resident memory of this process so far (bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def private(process: int) -> int:
    """Memory of a running process that no other shares (bytes; Linux, elsewhere 0)."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _settled() -> int:
    """Resident memory after giving free memory back, so that reusing it counts; resets the peak."""
    gc.collect()
    with suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS") or own()


def _highest() -> int:
    return _status("VmHWM") or own()


def _status(field: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), 0)
