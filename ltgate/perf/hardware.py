"""Rows on hardware: what this machine has, and what the work needs of it."""

import os
import shutil
import sysconfig
from pathlib import Path

from ltgate import origin, paths
from ltgate.perf import memory, training
from ltgate.perf.bench import Bench
from ltgate.perf.guide import Measured, measures

_CORES = 4  # the guide's minimum


@measures
def hardware(bench: Bench) -> dict[str, Measured]:
    """Requirements: refuted where this machine has less and every row was measured all the same."""
    machine = origin.machine()
    missing = machine["gpu"] == "none"
    fewer = machine["cores"] < _CORES
    untested = "not measured here"
    ram, disk = _ram_gb(bench), _storage_gb()
    told = "the process with its libraries at its highest, training on fast batches"
    root = paths.root()  # which the first output makes
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    stored = f"environment and data with cached features on this machine; {free:.0f} GB are free"
    return {
        "hardware.minimum.gpu": Measured(
            machine["gpu"],
            "every other row was measured without one" if missing else "this machine has one",
            "does not hold" if missing else untested,
        ),
        "hardware.minimum.cpu": Measured(
            machine["cores"],
            f"{machine['cpu']}; " + ("enough for every row" if fewer else "fewer were not tried"),
            "does not hold" if fewer else untested,
        ),
        "hardware.minimum.ram": Measured(ram, told),
        "hardware.minimum.storage": Measured(disk, stored),
        "hardware.recommended.ram": Measured(ram, told),
        "hardware.recommended.storage": Measured(disk, stored),
    }


def _ram_gb(bench: Bench) -> float:
    one = (bench.published, bench.workloads["fast"], 1)
    found = memory.peaks(training.batches_of, one, [one], threads=bench.threads)
    return found[0].highest / 1e9


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
