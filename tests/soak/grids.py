"""Disturb grids at random moments; every trial must end up done once, with the same bytes.

    python tests/soak_grid.py --rounds 3

An undisturbed grid runs in one process first. Then, in each round and on folders of their own:
a worker of a local cluster is killed with SIGKILL, later the whole run, and the grid is started
again; two processes start the same grid at the same time; a scheduler and two workers are started
by hand on the loopback address and the grid is pointed at them. Result files are compared byte by
byte with the undisturbed ones, and the records must show one finished attempt for each trial.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from small_grid import small_grid  # noqa: E402

TRIALS = 12


def start(home: Path, *settings: str) -> subprocess.Popen:
    """``python -m ltgate grid`` in a process that keeps everything under ``home``."""
    environment = {
        **os.environ,
        "LTGATE_HOME": str(home),
        "LTGATE_DATA_CACHE": str(home.parent / "data"),
        "PYTHONPATH": str(ROOT),
        "LTGATE_PROGRESS": "off",
    }
    command = [sys.executable, "-m", "ltgate", "grid", str(home.parent / "soak.yaml")]
    command += ["--set", *settings]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def rows(home: Path) -> dict[str, bytes]:
    """Every result file."""
    return {f.name: f.read_bytes() for f in (home / "runs/soak/grid/results").glob("*.csv")}


def attempts(home: Path) -> list[list[dict]]:
    """Attempts of every trial."""
    records = (home / "runs/soak/grid/trials").glob("*.json")
    return [json.loads(record.read_text())["attempts"] for record in records]


def descendants(process: int) -> list[int]:
    """Processes that ``process`` has started, and those that they have."""
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def workers(process: int) -> list[int]:
    """Worker processes of a local cluster."""
    found = []
    for child in descendants(process):
        try:
            text = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in text:
            found.append(child)
    return found


def kill(processes: list[int]) -> None:
    """SIGKILL, to those that are there."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def until(ready: Callable[[], bool], process: subprocess.Popen, seconds: float = 300) -> None:
    """Wait for a condition, or the end of the process."""
    deadline = time.monotonic() + seconds
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def kills(home: Path, moments: random.Random) -> str:
    """A worker dies, then the whole run; started again it ends."""
    local = ("cluster=local", "grid_workers=2")
    run = start(home, *local)
    first = moments.randint(0, 3)
    until(lambda: len(rows(home)) >= first and len(workers(run.pid)) >= 2, run)
    time.sleep(moments.uniform(0, 1.5))
    victim = moments.choice(workers(run.pid))
    kill([victim])
    second = moments.randint(first + 1, 8)
    until(lambda: len(rows(home)) >= second, run)
    time.sleep(moments.uniform(0, 1.0))
    kill([run.pid, *descendants(run.pid)])
    run.wait()
    left = len(rows(home))
    if start(home, *local).wait() != 0:
        sys.exit("the grid that was started again failed")
    lost = sum("error" in a and a["error"] != "" for trial in attempts(home) for a in trial)
    return f"worker killed after {first}+, run killed at {left} of {TRIALS}; {lost} attempts lost"


def together(home: Path, moments: random.Random) -> str:
    """Two processes on one folder."""
    runs = [start(home, "cluster=none")]
    time.sleep(moments.uniform(0, 1.0))
    runs.append(start(home, "cluster=none"))
    if any(run.wait() for run in runs):
        sys.exit("one of two processes failed")
    shares = [attempt["process"] for trial in attempts(home) for attempt in trial]
    return f"trials per process: {[shares.count(run.pid) for run in runs]}"


def by_hand(home: Path, moments: random.Random) -> str:
    """A scheduler and two workers that are started by hand."""
    port = moments.randint(20000, 30000)
    address = f"tcp://127.0.0.1:{port}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LTGATE_PROGRESS": "off"}
    dask = [sys.executable, "-m", "distributed.cli."]
    scheduler = [*dask[:2], dask[2] + "dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    worker = [*dask[:2], dask[2] + "dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    worker += ["--local-directory", str(home)]
    started = [
        subprocess.Popen([*command, *more], env=environment, **quiet)
        for command, more in ((scheduler, ["--no-dashboard"]), (worker, []), (worker, []))
    ]
    try:
        if start(home, f"cluster={address}").wait() != 0:
            sys.exit(f"the grid at {address} failed")
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
    shares = [attempt["process"] for trial in attempts(home) for attempt in trial]
    return f"{address}, trials per worker: {sorted(shares.count(p) for p in set(shares))}"


def main() -> None:
    """The undisturbed grid, then the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        small_grid(top, "soak", seeds=[0, 1, 2], params={"epochs": 8}, retries=3)
        began = time.monotonic()
        if start(top / "whole", "cluster=none").wait() != 0:
            sys.exit("the undisturbed grid failed")
        whole = rows(top / "whole")
        print(f"undisturbed: {len(whole)} trials ({time.monotonic() - began:.0f} s)", flush=True)
        assert len(whole) == TRIALS
        for number in range(options.rounds):
            for disturb in (kills, together, by_hand):
                home = top / f"{disturb.__name__}-{number}"
                began = time.monotonic()
                told = disturb(home, moments)
                same = rows(home) == whole
                once = [sum(a.get("error") == "" for a in trial) for trial in attempts(home)]
                took = f"{time.monotonic() - began:.0f} s"
                print(
                    f"{disturb.__name__}: same rows: {same}, each done once: "
                    f"{once == [1] * TRIALS}; {told} ({took})",
                    flush=True,
                )
                if not same or once != [1] * TRIALS:
                    sys.exit(1)


if __name__ == "__main__":
    main()
