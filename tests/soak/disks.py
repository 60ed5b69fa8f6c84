"""Disks that are full and folders that cannot be written to: one clear line, nothing lost.

Each stage runs in a folder on a tmpfs that has ever more room (where mounting is allowed; elsewhere
under a limit on the size of a file, and says so), until there is enough: what was there before is
untouched after every failure, and the last run gives what a run on an ordinary disk gives.
"""

import contextlib
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

from soak import stages
from soak.kills import _files
from soak.record import Failed, case

ROOM = (64, 512, 2048, 8192, 65536, 262144)  # KiB
STAGES = ("HDF5 digits", "training:lt_gate", "training:lt_gate_published", "checkpoint", "figures")


@contextlib.contextmanager
def disk(folder: Path, kibibytes: int, read_only: bool = False) -> Iterator[bool]:
    """A tmpfs of a size at ``folder``; False where it cannot be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={kibibytes}k" + (",ro" if read_only else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def attempt(stage: str, home: Path, limit: int = 0) -> str:
    """Run a stage in a process of its own; '' or the one line that it ends with."""
    forkserver.set_forkserver_preload(["ltgate.perf", "ltgate.__main__", "soak.stages"])
    with tempfile.NamedTemporaryFile() as log:
        process = multiprocessing.get_context("forkserver").Process(
            target=tell, args=(stage, str(home), limit, log.name)
        )
        process.start()
        process.join(600)
        lines = Path(log.name).read_text().strip().splitlines()
    if process.exitcode == 0:
        return ""
    if process.exitcode != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
        raise Failed(f"{stage}: ended with {process.exitcode}: {' | '.join(lines[-3:])[-400:]}")
    return lines[0]


def tell(stage: str, home: str, limit: int, log: str) -> None:
    """A stage as the command line runs it: a `UserError` is one line and status 2."""
    from ltgate import __main__

    errors = os.open(log, os.O_WRONLY)
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit * 1024, limit * 1024))

    def action(_: object) -> None:
        try:
            stages.work(stage, home)
        finally:
            os.dup2(errors, 2)

    options = SimpleNamespace(action=action)
    __main__.parser = lambda: SimpleNamespace(parse_args=lambda _: options)
    sys.exit(__main__.main([]))


def contents(home: Path) -> dict[str, bytes]:
    """Every file under a final name."""
    return {str(path.relative_to(home)): path.read_bytes() for path in _files(home)}


def full(stage: str, top: Path) -> tuple[int, int, str]:
    """Attempts, failures, and how the disk was made small."""
    whole, home = top / "whole" / "home", top / "home"
    for folder in (whole, home):
        folder.mkdir(parents=True)
        if stage == "figures" and folder == home:
            (home.parent / "finished").symlink_to(whole.parent / "finished")
        stages.prepare_apart(stage, folder)
    if error := attempt(stage, whole):
        raise Failed(f"{stage}: failed on an ordinary disk: {error}")
    rows = {name: text for name, text in contents(whole).items() if name.endswith(".csv")}
    attempts = failures = 0
    how, kept = "", contents(home)
    for room in ROOM:
        with disk(top / "small", room) as mounted:
            small = (top / "small") if mounted else home
            how = "tmpfs" if mounted else "limit on the size of a file"
            if mounted:
                with contextlib.suppress(OSError):
                    for name, content in kept.items():
                        (small / name).parent.mkdir(parents=True, exist_ok=True)
                        (small / name).write_bytes(content)
                if contents(small) != kept:
                    continue  # what a stage starts from has no room
            before = contents(small)
            error = attempt(stage, small, 0 if mounted else room)
            attempts += 1
            after = contents(small)
            if not error:
                made = {name: text for name, text in after.items() if name.endswith(".csv")}
                if made != rows:
                    raise Failed(f"{stage}: other rows than on an ordinary disk")
                return attempts, failures, how
            failures += 1
            if not re.search("No space left|File too large", error):
                raise Failed(f"{stage}: {error}")
            if any(after.get(name) != content for name, content in before.items()):
                raise Failed(f"{stage}: an earlier file has changed after: {error}")
            kept = after
    raise Failed(f"{stage}: never had enough room")


def read_only(top: Path) -> list[str]:
    """Lines of stages in a folder that cannot be written to."""
    lines = []
    for stage in ("HDF5 digits", "training:lt_gate", "checkpoint"):
        with disk(top / "fixed", 1024, read_only=True) as mounted:
            if not mounted:
                raise Failed("a read-only disk cannot be mounted here")
            error = attempt(stage, top / "fixed")
        if "Read-only file system" not in error:
            raise Failed(f"{stage}: {error or 'no error'}")
        lines.append(error)
    return lines


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """All stages on small disks, then on a read-only one."""
    command = "python tests/soak disks"
    for stage in STAGES:
        name = f"full disk: {stage.replace(':', ' ')}"
        if only not in name:
            continue
        with case(name, command) as row, tempfile.TemporaryDirectory() as folder:
            attempts, failures, how = full(stage, Path(folder))
            row["tried"] = f"{attempts} sizes ({how})"
            row["outcome"] = (
                f"{failures} ended in one line that names the file, earlier files untouched; with "
                "room, the rows of an ordinary disk"
            )
    if only in "read-only":
        with case("read-only folder", command) as row, tempfile.TemporaryDirectory() as folder:
            lines = read_only(Path(folder))
            row["tried"] = f"{len(lines)} stages"
            row["outcome"] = f"one line each: {lines[0].replace(folder, '')}"
