"""What this machine has, what the work needs of it, and monitors of the work."""

import os
import shutil
import sysconfig
import time
from pathlib import Path

import torch

from ltgate import paths, provenance
from ltgate.data.store import open_task
from ltgate.params import Params
from ltgate.perf import fresh
from ltgate.perf.bench import TASKS, Bench, Workload
from ltgate.perf.guide import Absent, Facts, need_gpu
from ltgate.perf.training import train, trained


def hardware(bench: Bench) -> Facts:
    """What there is, and gigabytes of memory and storage that all of this takes.

    A requirement is refuted where this machine has less and every row was measured all the same.
    """
    there = provenance.machine()
    work = (bench.published, bench.workloads["fast"])
    ram = fresh.call(memory_of_training, *work, threads=bench.threads)
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
    return fresh.highest()


def _storage_gb() -> float:
    """Installed packages and data."""
    folders = {Path(sysconfig.get_paths()[kind]) for kind in ("purelib", "platlib")}
    return sum(_bytes(folder) for folder in folders | {paths.data()}) / 1e9


def _bytes(folder: Path) -> int:
    """What the folder occupies; files that vanish meanwhile do not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total


def monitors(bench: Bench) -> Facts:
    """Memory, stages of a batch, spikes per layer, in words."""
    activity = bench.workloads["fast"].forward()
    counts = activity.counts
    rates = {name: float(counts[name].float().mean()) / activity.steps for name in counts}
    stages = trained(bench, "fast").stages.itertuples()
    if bench.device == "cpu":
        used = fresh.highest()
        told = (
            "highest resident memory of this process (no GPU); ltgate.perf.fresh for single works"
        )
    else:
        used = torch.cuda.max_memory_allocated()
        told = "torch.cuda.max_memory_allocated of this process"
    return {
        "memory": f"{used / 1e9:.2f} GB",
        "memory_told": told,
        "stages": ", ".join(f"{row.stage} {row.seconds * 1e3:.1f} ms" for row in stages),
        "spikes": f"{sum(int(count.sum()) for count in counts.values()):,} spikes",
        "rates": ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items()),
    }


def gpu_load(bench: Bench) -> Facts:
    """Share of the time in which the GPU ran a kernel during forward passes, and memory in use."""
    need_gpu(bench)
    work = bench.workloads["fast"]
    end = time.perf_counter() + 1  # the longest time that NVIDIA's library looks back
    while time.perf_counter() < end:
        work.forward()
    try:
        busy = torch.cuda.utilization()
    except ModuleNotFoundError:
        raise Absent("nvidia-ml-py is not installed") from None
    return {"load": f"{busy}% busy, {torch.cuda.device_memory_used() / 1e9:.2f} GB"}
