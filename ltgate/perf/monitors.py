"""Rows on monitors: each is used once, on a training batch."""

import torch

from ltgate.perf import gpu, memory
from ltgate.perf.bench import Bench
from ltgate.perf.guide import NO_GPU, Measured, absent, measures
from ltgate.perf.training import trained


@measures
def monitors(bench: Bench) -> dict[str, Measured]:
    """GPU load, memory, stages of a batch, spikes per layer."""
    with gpu.watch() as load:
        activity = bench.workloads["fast"].forward()
    table = trained(bench, "fast").stages
    stages = ", ".join(f"{row.stage} {row.seconds * 1e3:.1f} ms" for row in table.itertuples())
    layers = bench.workloads["fast"].network.layers
    rates = ", ".join(
        f"{layer.name} {float(activity.counts[layer.name].float().mean()) / activity.steps:.1%}"
        for layer in layers
    )
    spikes = sum(int(counts.sum()) for counts in activity.counts.values())
    return {
        "monitors.training.gpu": (
            Measured(str(load), "ltgate.perf.gpu, from NVIDIA's library", "holds")
            if load.utilisation
            else absent(load.reason or NO_GPU)
        ),
        "monitors.training.memory": _memory(bench),
        "monitors.training.timing": Measured(
            stages, "ltgate.perf.stages: any learner as it is, per fast batch", "holds"
        ),
        "monitors.training.spikes": Measured(
            f"{spikes:,} spikes", f"Activity.counts of a fast batch; per step {rates}", "holds"
        ),
    }


def _memory(bench: Bench) -> Measured:
    if bench.device != "cpu":
        highest = torch.cuda.max_memory_allocated() / 1e9
        told = "torch.cuda.max_memory_allocated of this process"
    else:
        highest = memory.own() / 1e9
        told = (
            "highest resident memory of this process (no GPU); ltgate.perf.memory for single works"
        )
    return Measured(f"{highest:.2f} GB", told, "holds")
