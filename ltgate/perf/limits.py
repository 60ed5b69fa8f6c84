"""Rows on known limitations: does each one bind here?"""

from functools import partial

from ltgate.perf import fresh, loading, memory
from ltgate.perf.bench import Bench, Workload
from ltgate.perf.guide import NO_GPU, Measured, absent, holds, measures
from ltgate.perf.passes import peaks
from ltgate.perf.training import trained


@measures
def gpu_limits(bench: Bench) -> dict[str, Measured]:
    """GPU memory: during updates, in mixed precision, on first calls."""
    if bench.device == "cpu":
        return {
            f"limits.gpu.{row}": absent(NO_GPU)
            for row in ("updates", "mixed_precision", "compilation")
        }
    fast = bench.workloads["fast"]
    forward, update = peaks(bench)
    exact, half = (memory.on_gpu(partial(fast.gpu, mixed=kind)) for kind in (False, True))
    first, later = fresh.call(first_and_later_gpu, fast)
    return {
        "limits.gpu.updates": Measured(
            update / forward, "peak with the local update over without", holds(update > forward)
        ),
        "limits.gpu.mixed_precision": Measured(
            half / exact, "peak in mixed precision over exact", holds(half > exact)
        ),
        "limits.gpu.compilation": Measured(
            first / later, "peak of a process's first forward over its second", holds(first > later)
        ),
    }


def first_and_later_gpu(workload: Workload) -> tuple[int, int]:
    """Peak GPU memory (bytes) of a process's first and second forward pass."""
    return memory.on_gpu(workload.forward), memory.on_gpu(workload.forward)


@measures
def cpu_limits(bench: Bench) -> dict[str, Measured]:
    """Loader processes, HDF5 and compilation, each against a training batch."""
    images = bench.images("fast")
    batch = trained(bench, "fast").seconds / trained(bench, "fast").batches
    many = max(bench.sizes.workers)
    alone, crowd = (
        loading.milliseconds(images, bench.sizes.load, workers, 1) / 1e3 for workers in (0, many)
    )
    first, later = fresh.call(first_and_later)
    return {
        "limits.cpu.workers": Measured(
            crowd / alone,
            f"time per batch with {many} loader processes over none (start included): they cost "
            "more than they read, so the default is none",
            holds(crowd > alone),
        ),
        "limits.cpu.hdf5": Measured(
            alone / batch,
            "share of a fast training batch that reading its images takes: they are mapped from "
            "the HDF5 file, uncompressed",
            holds(alone > 0.01 * batch),
        ),
        "limits.cpu.compilation": Measured(
            first - later,
            "s that a process's first pass takes longer: compiled code is loaded, or "
            "compiled where there is none",
            holds(first - later > 10 * batch),
        ),
    }


def first_and_later() -> tuple[float, float]:
    """Seconds of the first and second pass in the server that fresh processes are forked from."""
    from ltgate.perf import warm

    return warm.FIRST, warm.LATER
