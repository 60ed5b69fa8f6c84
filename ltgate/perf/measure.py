"""Times of works side by side; memory and first calls in fresh processes, where nothing is left."""

import ctypes
import gc
import pickle
import resource
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch

from ltgate import processes
from ltgate.stages import wait

Work = Callable[[], object]


def seconds(work: Work, device: str = "cpu") -> float:
    """Wall time of one call (s)."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def interleaved[Key: Hashable](
    works: dict[Key, Work], repeats: int, device: str = "cpu"
) -> dict[Key, float]:
    """Shortest wall time (s) of each work over ``repeats`` rounds.

    Every round calls every work once, so that a change in the machine's load meets all of them.
    The shortest time is kept: other processes only ever add to it. With two rounds or more it also
    leaves out what only a first call does.
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for key, work in works.items():
            best[key] = min(best[key], seconds(work, device))
    return best


def fresh[Result](function: Callable[..., Result], *arguments: object, threads: int = 1) -> Result:
    """``function(*arguments)`` in a process of its own on ``threads`` threads.

    The function is one of a module's own, so that the process can find it.
    """
    # Plain pickle: sent as they are, tensors would share memory with this process.
    work = pickle.dumps((function, arguments, threads))
    with processes.from_server(), ProcessPoolExecutor(1, processes.CONTEXT) as pool:
        return pickle.loads(pool.submit(_call, work).result())


def _call(work: bytes) -> bytes:
    function, arguments, threads = pickle.loads(work)
    torch.set_num_threads(threads)
    return pickle.dumps(function(*arguments))


def each[Result](measure: Callable[[Work], Result], works: Sequence[Work]) -> list[Result]:
    """What ``measure`` says of each of the works, one after the other."""
    return [measure(work) for work in works]


def peaks(warm: Work, works: Sequence[Work], device: str = "cpu", threads: int = 1) -> list[int]:
    """Peak memory of each of ``works`` above its start (bytes), one after the other.

    On a GPU what PyTorch allocates, else resident memory of one fresh process. ``warm`` is a first,
    small call that loads whatever the work loads once. All can be pickled (``functools.partial``).
    Without Linux's resettable peak, give the works from small to large.
    """
    if device != "cpu":
        return each(peak_on_gpu, works)
    return fresh(each, _peak, [warm, *works], threads=threads)[1:]


def _peak(work: Work) -> int:
    """Free memory is given back before, so that reusing it counts."""
    gc.collect()
    with suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    start = highest()
    work()
    return highest() - start


def peak_on_gpu(work: Work) -> int:
    """Peak memory that PyTorch allocates on the GPU in one call, above the start (bytes)."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - start


def highest() -> int:
    """Highest resident memory of this process so far, or since its last reset (bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
