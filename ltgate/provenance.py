"""What produced a result: the code's commit, the libraries, the machine; kept in ``run.json``."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ltgate import files, paths

Record = dict[str, Any]

LIBRARIES = (
    "numpy", "scipy", "torch", "h5py", "pandas", "scikit-learn", "matplotlib", "seaborn",
    "pydantic", "PyYAML", "papermill", "nbclient", "ipykernel", "lava-nc",
)  # fmt: skip


def read(name: str) -> Record:
    """The ``run.json`` of run ``name``; empty when there is none or it is broken."""
    return files.read_json(paths.run(name) / "run.json")


def write(record: Record) -> None:
    """Write ``record`` to the ``run.json`` of the run it names, whole or not at all."""
    with files.atomic(paths.run(record["name"]) / "run.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1))


def commit() -> str:
    """The checkout's git commit, ending in ``-dirty`` when files differ; 'unknown' outside git."""
    checkout = Path(__file__).resolve().parent.parent
    if _output("git", "-C", str(checkout), "rev-parse", "--show-toplevel") != str(checkout):
        return "unknown"
    head = _output("git", "-C", str(checkout), "rev-parse", "HEAD")
    changed = _output("git", "-C", str(checkout), "status", "--porcelain")
    return f"{head}-dirty" if head and changed else head or "unknown"


def versions() -> dict[str, str]:
    """Version of Python and of each library that is installed."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor model, cores this process may use, memory (GB), GPU (or 'none') and system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    usable = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu(),
        "cores": len(usable(0)) if usable else os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "gpu": _gpu(),
        "system": platform.platform(),
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()


def _gpu() -> str:
    names = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    return "; ".join(names.splitlines()) or "none"


def _output(*command: str) -> str:
    """What a program prints, or '' when it is not there or fails."""
    if not shutil.which(command[0]):
        return ""
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""
