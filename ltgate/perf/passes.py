"""Single batches: time of the forward pass, the local update and a spike, and their memory."""

from dataclasses import replace
from functools import cache, partial

import torch

from ltgate.perf import fresh, timing
from ltgate.perf.bench import Bench, Workload
from ltgate.perf.guide import Facts, need_gpu
from ltgate.perf.peers import Convolutions


def batch_times(bench: Bench) -> Facts:
    """Times (ms) of forward pass and local update of both tasks; spikes with two thresholds."""
    fast, slow = bench.workloads["fast"], bench.workloads["slow"]
    quiet = quieter(fast)
    work = {
        "forward": fast.forward,
        "update": fast.update,
        "quiet": quiet.forward,
        "slow_forward": slow.forward,
        "slow_update": slow.update,
    }
    found = bench.times(work)
    ms = {name: value * 1e3 for name, value in found.items()}
    return {
        **ms,
        "slow_learning": ms["slow_update"] - ms["slow_forward"],
        "spikes": fast.spikes(),
        "fewer": quiet.spikes(),
        "device": bench.device,
        "threads": bench.threads,
    }


def quieter(workload: Workload, factor: float = 2.0) -> Workload:
    """The same with all thresholds raised."""
    network = workload.network.clone()
    for layer in network.layers:
        layer.threshold = layer.threshold * factor
    return replace(workload, network=network)


@cache
def batch_memory(bench: Bench) -> Facts:
    """Peak memory above start (bytes) of a fast batch, without and with the local update."""
    fast = bench.workloads["fast"]
    works = [partial(work, fast) for work in (Workload.forward, Workload.update)]
    warm = partial(Workload.update, fast.cut(1))
    forward, update = bench.peaks(warm, works)
    return {"forward": forward, "update": update, "where": bench.where}


def gpu_memory(bench: Bench) -> Facts:
    """Peak GPU memory (bytes): exact and in mixed precision, of a process's first and second pass,
    without and with the local update."""
    need_gpu(bench)
    fast = bench.workloads["fast"]
    works = [partial(fast.gpu, mixed=kind) for kind in (False, True)]
    exact, half = bench.peaks(fast.forward, works)
    first, later = fresh.twice(fresh.on_gpu, fast.forward)
    return batch_memory(bench) | {"exact": exact, "half": half, "first": first, "later": later}


def mixed_precision(bench: Bench) -> Facts:
    """The GPU backend's parameter ``mixed``; on a CPU, dense convolutions in bfloat16."""
    fast = bench.workloads["fast"]
    if bench.device != "cpu":
        work = {kind: partial(fast.gpu, mixed=kind) for kind in (True, False)}
        exact, rounded = fast.forward().counts, fast.gpu(mixed=True).counts
        differ = [float((rounded[name] != exact[name]).float().mean()) for name in exact]
        told = f"time in mixed precision over exact; counts differ in {max(differ):.2%} of a layer"
    else:
        few = fast.cut(images=1)
        kinds = {True: torch.bfloat16, False: torch.float32}
        work = {kind: Convolutions(few, dtype=dtype).run for kind, dtype in kinds.items()}
        told = (
            "time of dense convolutions in bfloat16 over float32 (a CPU gains where it has such "
            "arithmetic); it rounds currents to 8 bits, so spikes would differ: not used on CPUs"
        )
    found = bench.times(work)
    return {"ratio": found[True] / found[False], "told": told}


def cuda_graphs(bench: Bench) -> Facts:
    """The GPU backend's parameter ``cuda_graphs``, on a slow batch."""
    need_gpu(bench)
    slow = bench.workloads["slow"]
    work = {graphs: partial(slow.gpu, cuda_graphs=graphs) for graphs in (True, False)}
    found = bench.times(work)
    return {"ratio": found[True] / found[False]}


def best_batch(bench: Bench) -> Facts:
    """The batch size from which twice as many images at once gain less than 5 %.

    The batch is doubled until then or until memory runs out; ``rate`` is images per second of
    forward pass and local update.
    """
    rates: dict[int, float] = {}
    size = smallest = 4
    with timing.threads(bench.threads):
        while size <= max(bench.extent.images):
            work = {"update": bench.workloads["fast"].cut(images=size).update}
            try:
                rates[size] = size / timing.interleaved(work, 2, bench.device)["update"]
            except torch.cuda.OutOfMemoryError:
                break
            if size > smallest and rates[size] < 1.05 * rates[size // 2]:
                break
            size *= 2
    best = max(rates, key=rates.get)
    gain = rates[best] / rates[smallest]
    return {"size": best, "rate": rates[best], "gain": gain, "smallest": smallest}
