"""What this machine has, what a batch of 32 takes of it, and monitors of the work."""

import os
import shutil
import sysconfig
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial

import torch

from ltgate import paths, provenance
from ltgate.data.store import open_task
from ltgate.params import Params
from ltgate.perf import measure, peers
from ltgate.perf.bench import TASKS, Bench, Workload
from ltgate.perf.guide import Absent, Facts, need_gpu
from ltgate.perf.training import train, trained


def hardware(bench: Bench) -> Facts:
    """What there is, and gigabytes of memory and storage that all of this takes.

    A requirement is refuted where this machine has less and every row was measured all the same.
    """
    there = provenance.machine()
    work = (bench.published, bench.workloads["fast"])
    ram = measure.fresh(memory_of_training, *work, threads=bench.threads)
    root = paths.root()  # which the first output makes
    folder = next(folder for folder in (root, *root.parents) if folder.exists())
    gpu = there["gpu"] != "none"
    enough = there["cores"] < 4  # than the guide asks for
    return {
        "gpu": there["gpu"],
        "gpu_told": "this machine has one" if gpu else "every other row was measured without one",
        "cpu": there["cpu"],
        "cores": there["cores"],
        "cores_told": "enough for every row" if enough else "fewer were not tried",
        "ram": ram / 1e9,
        "storage": _storage_gb(),
        "free": shutil.disk_usage(folder).free / 1e9,
    }


def memory_of_training(params: Params, workload: Workload) -> int:
    """Open the data and train one fast batch; the most that this process has held (bytes)."""
    train(params, workload, open_task(params, TASKS["fast"], "train", 0), 1)
    return measure.highest()


def _storage_gb() -> float:
    """Installed packages and data; files that vanish meanwhile do not count."""
    folders = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")} | {paths.data()}
    total = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                with suppress(OSError):
                    total += os.lstat(os.path.join(parent, name)).st_size
    return total / 1e9


def batch_times(bench: Bench) -> Facts:
    """Times (ms) of forward pass and local update of both tasks; spikes with two thresholds."""
    fast, slow = bench.workloads["fast"], bench.workloads["slow"]
    quiet = quieter(fast)
    works = {
        "forward": fast.forward,
        "update": fast.update,
        "quiet": quiet.forward,
        "slow_forward": slow.forward,
        "slow_update": slow.update,
    }
    ms = {name: value * 1e3 for name, value in bench.times(works).items()}
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
    forward, update = bench.peaks(fast.cut(1).update, [fast.forward, fast.update])
    return {"forward": forward, "update": update, "where": bench.where}


def gpu_memory(bench: Bench) -> Facts:
    """Peak GPU memory (bytes): exact and in mixed precision, of a process's first and second pass,
    without and with the local update."""
    need_gpu(bench)
    fast = bench.workloads["fast"]
    works = [partial(fast.gpu, mixed=kind) for kind in (False, True)]
    exact, half = bench.peaks(fast.forward, works)
    first, later = measure.fresh(measure.each, measure.peak_on_gpu, [fast.forward] * 2)
    return batch_memory(bench) | {"exact": exact, "half": half, "first": first, "later": later}


def mixed_precision(bench: Bench) -> Facts:
    """The GPU backend's parameter ``mixed``; on a CPU, dense convolutions in bfloat16."""
    fast = bench.workloads["fast"]
    if bench.device != "cpu":
        works = {kind: partial(fast.gpu, mixed=kind) for kind in (True, False)}
        exact, rounded = fast.forward().counts, fast.gpu(mixed=True).counts
        differ = [float((rounded[name] != exact[name]).float().mean()) for name in exact]
        told = f"time in mixed precision over exact; counts differ in {max(differ):.2%} of a layer"
    else:
        few = fast.cut(images=1)
        kinds = {True: torch.bfloat16, False: torch.float32}
        works = {kind: peers.convolutions(few, dtype=dtype) for kind, dtype in kinds.items()}
        told = (
            "time of dense convolutions in bfloat16 over float32 (a CPU gains where it has such "
            "arithmetic); it rounds currents to 8 bits, so spikes would differ: not used on CPUs"
        )
    found = bench.times(works)
    return {"ratio": found[True] / found[False], "told": told}


def cuda_graphs(bench: Bench) -> Facts:
    """The GPU backend's parameter ``cuda_graphs``, on a slow batch."""
    need_gpu(bench)
    slow = bench.workloads["slow"]
    found = bench.times({kind: partial(slow.gpu, cuda_graphs=kind) for kind in (True, False)})
    return {"ratio": found[True] / found[False]}


def monitors(bench: Bench) -> Facts:
    """Memory, stages of a batch, spikes per layer, in words."""
    activity = bench.workloads["fast"].forward()
    counts = activity.counts
    rates = {name: float(counts[name].float().mean()) / activity.steps for name in counts}
    stages = trained(bench, "fast").stages.items()
    if bench.device == "cpu":
        used, told = measure.highest(), "highest resident memory of this process (no GPU)"
        told += "; ltgate.perf.measure for single works"
    else:
        used = torch.cuda.max_memory_allocated()
        told = "torch.cuda.max_memory_allocated of this process"
    return {
        "memory": f"{used / 1e9:.2f} GB",
        "memory_told": told,
        "stages": ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in stages),
        "spikes": f"{sum(int(count.sum()) for count in counts.values()):,} spikes",
        "rates": ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items()),
    }


def gpu_load(bench: Bench) -> Facts:
    """Share of the time in which the GPU ran a kernel during forward passes, and memory in use."""
    need_gpu(bench)
    end = time.perf_counter() + 1  # the longest time that NVIDIA's library looks back
    while time.perf_counter() < end:
        bench.workloads["fast"].forward()
    try:
        busy = torch.cuda.utilization()
    except ModuleNotFoundError:
        raise Absent("nvidia-ml-py is not installed") from None
    return {"load": f"{busy}% busy, {torch.cuda.device_memory_used() / 1e9:.2f} GB"}
