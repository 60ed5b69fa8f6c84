"""What produced a result: the code's commit, the libraries, the machine; kept in ``run.json``."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ltgate
from ltgate import files, paths
from ltgate.params import Params

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


def describe(params: Params) -> Record:
    """The part of a record that tells what is run, with what and where."""
    return {
        "name": params.name,
        "hash": params.hash,
        "seeds": params.seeds,
        "parameters": params.model_dump(),
        "version": ltgate.__version__,
        "commit": commit(),
        "libraries": versions(),
        "machine": machine(),
    }


@contextlib.contextmanager
def timed(params: Params, command: str) -> Iterator[None]:
    """Note time and disk space of a command that is no notebook (``grid``, ``bench``, ...).

    What is found is not made again, so of several calls with the same parameters the longest
    counts.
    """
    produced = (paths.run(params.name), paths.figures(params.name), paths.data())
    before, start = snapshot(*produced), time.monotonic()
    yield
    after, seconds = snapshot(*produced), round(time.monotonic() - start, 2)
    written = sum(size for path, (_, size) in after.items() if before.get(path) != after[path])
    record = read(params.name)
    earlier = record.get("commands", {})
    known = earlier.get(command, {})
    if known.get("hash") == params.hash and known["seconds"] >= seconds:
        return
    entry = {
        "hash": params.hash,
        "ended": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": seconds,
        "megabytes": round(written / 1e6, 6),
    }
    write({**record, **describe(params), "commands": {**earlier, command: entry}})


def snapshot(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Time and size of every file in ``folders``."""
    found = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # someone's temporary file
            if path.is_file() and not path.name.startswith("."):
                found[path] = (path.stat().st_mtime_ns, path.stat().st_size)
    return found


def commit() -> str:
    """The checkout's git commit, ending in ``-dirty`` when files differ; 'unknown' outside git."""
    checkout = paths.checkout()
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
