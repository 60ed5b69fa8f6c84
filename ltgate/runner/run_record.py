"""What is on record of a run, ``run.json``: its origin, what was run, how long it took."""

import contextlib
import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltgate import files, paths, provenance

if TYPE_CHECKING:
    from ltgate.params import Params

Record = dict[str, Any]


def read(name: str) -> Record:
    """The ``run.json`` of run ``name``; empty when there is none or it is broken."""
    return files.read_json(paths.run(name) / "run.json")


def write(record: Record) -> None:
    """Write ``record`` to the ``run.json`` of the run it names, whole or not at all."""
    files.write_json(paths.run(record["name"]) / "run.json", record)


@contextlib.contextmanager
def timed(params: "Params", command: str) -> Iterator[None]:
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
    write({**record, **provenance.describe(params), "commands": {**earlier, command: entry}})


def snapshot(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Time and size of every file in ``folders``."""
    found = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # someone's temporary file
            if path.is_file() and not path.name.startswith("."):
                found[path] = (path.stat().st_mtime_ns, path.stat().st_size)
    return found
