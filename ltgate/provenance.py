"""Where a result comes from: parameters, the code's commit, the libraries, the machine.

Beside every file of result rows lies such a record, and every run has one, ``run.json``.
"""

import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ltgate
from ltgate import paths

if TYPE_CHECKING:
    from ltgate.params import Params

LIBRARIES = (
    "numpy", "scipy", "torch", "h5py", "pandas", "scikit-learn", "matplotlib", "seaborn",
    "pydantic", "PyYAML", "papermill", "nbclient", "ipykernel", "lava-nc",
)  # fmt: skip


def describe(params: "Params", **more: Any) -> dict[str, Any]:
    """All that it takes to get a result again; ``more`` says which one of these parameters'."""
    return {
        "name": params.name,
        "hash": params.hash,
        "seeds": params.seeds,
        "parameters": params.model_dump(),
        **more,
        "version": ltgate.__version__,
        "commit": commit(),
        "libraries": versions(),
        "machine": machine(),
    }


def commit() -> str:
    """The checkout's git commit, ending in ``-dirty`` when files differ; 'unknown' outside git."""
    return _commit(paths.published())


@functools.cache  # as it was when the code was loaded, more or less; results may lie in it
def _commit(checkout: Path) -> str:
    if _output("git", "-C", str(checkout), "rev-parse", "--show-toplevel") != str(checkout):
        return "unknown"
    head = _output("git", "-C", str(checkout), "rev-parse", "HEAD")
    changed = _output("git", "-C", str(checkout), "status", "--porcelain")
    return f"{head}-dirty" if head and changed else head or "unknown"


@functools.cache
def versions() -> dict[str, str]:
    """Version of Python and of each library that is installed."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


@functools.cache
def machine() -> dict[str, Any]:
    """Processor model, cores this process may use, memory (GB), GPU (or 'none') and system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": cores(),
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
    """What a program prints, or '' when it is not there, fails, hangs or prints no text.

    What it would tell is optional: it never ends a run.
    """
    if not shutil.which(command[0]):
        return ""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()
