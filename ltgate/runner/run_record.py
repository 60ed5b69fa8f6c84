"""What is on record of a run, ``run.json``: its origin, what was run, how long it took."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
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


def snapshot(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Time and size of every file in ``folders``."""
    found = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # someone's temporary file
            if path.is_file() and f"/{files.TEMPORARY}" not in str(path):
                found[path] = (path.stat().st_mtime_ns, path.stat().st_size)
    return found


def watch(name: str) -> Callable[[], dict[Path, float]]:
    """From now on, watch the folders of run ``name``: a call gives the files written, with MB."""
    folders = (paths.run(name), paths.figures(name), paths.data())
    before = snapshot(*folders)

    def written() -> dict[Path, float]:
        return {p: s[1] / 1e6 for p, s in snapshot(*folders).items() if before.get(p) != s}

    return written


def now() -> str:
    """The local time, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


@contextlib.contextmanager
def timed(params: "Params", command: str) -> Iterator[None]:
    """Note time and disk space of a command that is no notebook (``grid``, ``bench``, ...).

    What is found is not made again, so of several calls with the same parameters the longest
    counts.
    """
    written, start = watch(params.name), time.monotonic()
    yield
    seconds = round(time.monotonic() - start, 2)
    record = read(params.name)
    earlier = record.get("commands", {})
    known = earlier.get(command, {})
    if known.get("hash") == params.hash and known["seconds"] >= seconds:
        return
    megabytes = round(sum(written().values()), 6)
    entry = {"hash": params.hash, "ended": now(), "seconds": seconds, "megabytes": megabytes}
    write({**record, **provenance.describe(params), "commands": {**earlier, command: entry}})
