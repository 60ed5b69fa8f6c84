"""What "done" means for everything that is kept: made by this code, from these inputs, whole.

Beside a kept thing lies a record: of result rows in ``<key>.json``, of checkpoints and caches in
their header, of HDF5 files in their attributes, of notebooks, figures and tables in the run's
``run.json``. It has

========== =====================================================================================
code       fingerprint of the code that can change a learned number (:func:`code`)
inputs     the user's own files: path -> fingerprint of their content (:func:`content`)
parameters in full or as a hash, where the thing's name does not hold it
a checksum of the bytes (:func:`content`), or of the tensors
========== =====================================================================================

Whoever reads a thing asks :func:`changed` of its record; what has changed is made anew. Nothing
else counts as done: neither that a file is there, nor its time, nor its name.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ltgate
from ltgate import files

# Files and folders of the library that can change a learned number: a result row or a checkpoint.
LEARNING = {
    "backends", "checkpoint.py", "data", "declare.py", "features.py", "fixed_point.py",
    "memory.py", "methods", "metrics.py", "network.py", "neurons.py", "params.py", "plasticity",
    "processes.py", "registry.py", "results.py", "robustness.py", "state.py", "surrogate",
    "timescale.py", "train.py",
}  # fmt: skip


def record(inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The record of what this code makes from ``inputs``; noted before the work begins."""
    return {"code": code(), "inputs": dict(inputs or {})}


def changed(record: Mapping[str, Any]) -> str:
    """What differs from the time of ``record``, ``the learning code`` or a path; or ''."""
    if record.get("code") != code():
        return "the learning code"
    inputs = record.get("inputs")
    return differing(inputs) if isinstance(inputs, dict) else "its record"


def differing(noted: Mapping[str, str], root: str | Path = "") -> str:
    """The first path that no longer has the content that was noted for it, or ''."""
    for path, fingerprint in noted.items():
        try:
            if content(Path(root) / path) != fingerprint:
                return path
        except OSError:
            return path
    return ""


def content(path: str | Path) -> str:
    """SHA-256 of a file's bytes, read once a version (:func:`ltgate.files.once_a_version`).

    Of a folder, which may hold 70,000 files, the list of them with numbers, sizes and times of
    change; a process lists it once as long as the folders' own times stay.
    """
    path = Path(path)
    if path.is_dir():
        return _listing(path, tuple(x.stat().st_mtime_ns for x in (path, *sorted(path.glob("*/")))))
    return _content(path)


_content = files.once_a_version(lambda path: files.sha256(path))


@functools.lru_cache
def _listing(folder: Path, times: tuple[int, ...]) -> str:
    found = ((x.relative_to(folder).as_posix(), x.stat()) for x in sorted(folder.rglob("*.*")))
    return files.digest([[name, x.st_ino, x.st_size, x.st_ctime_ns] for name, x in found])


def code() -> str:
    """Fingerprint of the modules in `LEARNING`, as they were when this process first asked."""
    return _code(ltgate.__file__)


@functools.cache
def _code(_: str) -> str:
    return files.digest([file for file in sources() if file[0].split("/")[0] in LEARNING])


def sources() -> list[list[str]]:
    """Name and SHA-256 of every file of the library, as it is now."""
    package = Path(ltgate.__file__).resolve().parent
    found = sorted(p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return [[p.relative_to(package).as_posix(), content(p)] for p in found]
