"""Rows on single batches: forward pass, local update, spikes, and the memory they need."""

from dataclasses import replace

from ltgate.perf import memory, timing
from ltgate.perf.bench import Bench, Workload
from ltgate.perf.guide import Measured, measures


@measures
def passes(bench: Bench) -> dict[str, Measured]:
    """Forward pass and local update of a fast batch of 32; time per spike."""
    fast, slow = bench.workloads["fast"], bench.workloads["slow"]
    quiet = quieter(fast)
    work = {
        "forward": fast.forward,
        "update": fast.update,
        "quiet": quiet.forward,
        "slow forward": slow.forward,
        "slow update": slow.update,
    }
    with timing.threads(bench.threads):
        found = timing.interleaved(work, bench.sizes.repeats, bench.device)
    ms = {name: value * 1e3 for name, value in found.items()}
    spikes, fewer = fast.spikes(), quiet.spikes()
    where = f"{bench.device}, {bench.threads} threads"
    return {
        "runtime.forward.time": Measured(
            ms["forward"], f"fast batch of 32, {where}; slow batch {ms['slow forward']:.1f} ms"
        ),
        "runtime.forward.spikes": Measured(
            (ms["forward"] - ms["quiet"]) / (spikes - fewer) * 1e3,
            f"{spikes:,} spikes counted here; time of the spikes that lower thresholds add",
        ),
        "runtime.learning.update": Measured(
            ms["update"] - ms["forward"],
            f"traces and correlations of a fast batch beside its forward pass, {where}; slow batch "
            f"{ms['slow update'] - ms['slow forward']:.1f} ms",
        ),
    }


def quieter(workload: Workload, factor: float = 2.0) -> Workload:
    """The same with all thresholds raised."""
    network = workload.network.clone()
    for layer in network.layers:
        layer.threshold = layer.threshold * factor
    return replace(workload, network=network)


@measures
def pass_memory(bench: Bench) -> dict[str, Measured]:
    """Peak memory above start of a fast batch of 32, without and with the local update."""
    forward, update = peaks(bench)
    where = "on the GPU" if bench.device != "cpu" else "RAM of a CPU process (no GPU)"
    note = f"{where}, above start, fast batch of 32"
    return {
        "runtime.forward.memory": Measured(forward / 1e9, note),
        "runtime.learning.memory": Measured(update / 1e9, note),
    }


def peaks(bench: Bench) -> tuple[int, int]:
    """Peak memory above start (bytes) of the forward pass, and of it with the local update."""
    fast = bench.workloads["fast"]
    if bench.device != "cpu":
        return memory.on_gpu(fast.forward), memory.on_gpu(fast.update)
    forward, update = (
        memory.peaks(work, (fast.cut(1),), [(fast,)], threads=bench.threads)[0].above_start
        for work in (Workload.forward, Workload.update)
    )
    return forward, update
