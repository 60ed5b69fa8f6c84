"""Two at once: both end with the right results, or the second is told in one line who is at it."""

import os
import signal
import tempfile
import time
from pathlib import Path

from soak import disks
from soak.kills import Soak
from soak.record import Failed, case

ROUNDS = {"HDF5 build": 10, "training:lt_gate": 6, "training:lt_gate_published": 4, "grid": 4}


def hold(path: str) -> None:
    """Hold a lock until killed."""
    from ltgate import files

    with files.lock(path):
        time.sleep(600)


def stale(top: Path, soak: Soak) -> int:
    """Kill holders of a lock; each next one must get it at once. How many."""
    path, got = top / "some.lock", 0
    for _ in range(20):
        process = soak._process(hold, str(path))
        deadline = time.monotonic() + 60
        while str(process.pid) not in (path.read_text() if path.exists() else ""):
            if time.monotonic() > deadline:
                raise Failed(f"{path}: the lock of a dead process blocks")
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        got += 1
    return got


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """Pairs of processes on one folder, two runs of one file, locks of the dead."""
    command = "python tests/soak together"
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), seed)
        for stage, rounds in ROUNDS.items():
            name = f"two at once: {stage.replace(':', ' ')}"
            with case(name, command) as row:
                whole = soak._home(stage, "whole")
                seconds = soak._finish(stage, whole)
                expected = soak._content(whole)
                number = max(1, round(rounds * scale))
                for index in range(number):
                    home = soak._home(stage, f"pair-{index}")
                    first = soak._start(stage, home)
                    time.sleep(soak.moments.uniform(0, 0.7) * seconds)
                    second = soak._start(stage, home)
                    for process in (first, second):
                        process.join(600)
                        if process.exitcode != 0:
                            raise Failed(f"{stage}: one of two ended with {process.exitcode}")
                    soak._whole(home, expected, finished=True)
                row["tried"] = f"{number} pairs"
                row["outcome"] = "both ended well, files as those of one alone"
        with case("two at once: two runs of one parameter file", command) as row:
            home = soak._home("notebooks:01", "runs")
            first = soak._start("notebooks:01", home)
            held = home / "runs/soak/.lock"
            while not (held.exists() and held.read_text()):
                time.sleep(0.02)
            told = disks.attempt("notebooks:01", home.parent / "home")
            first.join(600)
            if f"in use by process {first.pid}" not in told or first.exitcode != 0:
                raise Failed(f"{told!r}, first ended with {first.exitcode}")
            row["tried"] = "1"
            row["outcome"] = f"the first ends well; the second: {told[:100].replace(folder, '')}..."
        with case("stale locks of killed processes", command) as row:
            row["tried"] = f"{stale(Path(folder), soak)} kills"
            row["outcome"] = "each next process gets the lock at once"
