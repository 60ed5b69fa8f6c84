"""Work in a fresh process, where no earlier work has left memory or threads; its peak memory."""

import ctypes
import gc
import os
import pickle
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch

from ltgate import processes

Work = Callable[[], object]


def call[Result](function: Callable[..., Result], *arguments: object, threads: int = 0) -> Result:
    """``function(*arguments)`` in a process of its own on ``threads`` threads (0 = all).

    The function is one of a module's own, so that the process can find it.
    """
    # Plain pickle: sent as they are, tensors would share memory with this process.
    work = pickle.dumps((function, arguments, threads))
    with processes.from_server(), ProcessPoolExecutor(1, processes.CONTEXT) as pool:
        return pickle.loads(pool.submit(_call, work).result())


def _call(work: bytes) -> bytes:
    function, arguments, threads = pickle.loads(work)
    torch.set_num_threads(threads or os.cpu_count() or 1)
    return pickle.dumps(function(*arguments))


def twice[Result](measure: Callable[[Work], Result], work: Work) -> tuple[Result, Result]:
    """What a fresh process measures of its first call of ``work``, and of its second."""
    return call(_twice, measure, work, threads=1)


def _twice(measure: Callable, work: Work) -> tuple:
    return measure(work), measure(work)


def peaks(warm: Work, works: Sequence[Work], device: str = "cpu", threads: int = 0) -> list[int]:
    """Peak memory of each of ``works`` above its start (bytes), one after the other.

    On a GPU what PyTorch allocates, else resident memory of one fresh process. ``warm`` is a first,
    small call that loads whatever the work loads once. All can be pickled (``functools.partial``).
    Without Linux's resettable peak, give the works from small to large.
    """
    if device != "cpu":
        return [on_gpu(work) for work in works]
    return call(_peaks, warm, list(works), threads=threads)


def _peaks(warm: Work, works: list[Work]) -> list[int]:
    warm()
    found = []
    for work in works:
        _settle()
        start = highest()
        work()
        found.append(highest() - start)
    return found


def on_gpu(work: Work) -> int:
    """Peak memory that PyTorch allocates on the GPU in one call, above the start (bytes)."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - start


def highest() -> int:
    """Highest resident memory of this process so far, or since :func:`_settle` (bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _settle() -> None:
    """Give free memory back, so that reusing it counts; reset the peak to what is held now."""
    gc.collect()
    with suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
