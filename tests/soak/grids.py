"""Disturb grids at random moments; every trial must end up done once, with the same bytes.

An undisturbed grid runs in one process first. Then, in each round and on folders of their own:
a worker of a local cluster is killed with SIGKILL, later the whole run, and the grid is started
again; a scheduler and two workers are started by hand on the loopback address and the grid is
pointed at them. Result files are compared byte by byte with the undisturbed ones, and the records
must show one finished attempt for each trial. Two processes on one grid: ``together``.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from small_grid import small_grid

from soak.record import Failed, case

ROOT = Path(__file__).resolve().parents[2]
TRIALS, ROUNDS = 12, 3


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


def descendants(process: int) -> list[psutil.Process]:
    """Processes that ``process`` has started, and those that they have."""
    return psutil.Process(process).children(recursive=True)


def workers(process: int) -> list[psutil.Process]:
    """Worker processes of a local cluster."""
    found = []
    for child in descendants(process):
        with contextlib.suppress(psutil.Error):
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child)
    return found


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL, to those that are there."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


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
    kill([psutil.Process(run.pid), *descendants(run.pid)])
    run.wait()
    left = len(rows(home))
    if start(home, *local).wait() != 0:
        raise Failed("the grid that was started again failed")
    lost = sum("error" in a and a["error"] != "" for trial in attempts(home) for a in trial)
    return (
        f"last time: worker killed after {first}+ results, run killed at {left} of {TRIALS}; "
        f"{lost} attempts lost"
    )


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
        os.environ["LTGATE_TRUSTED_SCHEDULER"] = address
        if start(home, f"cluster={address}").wait() != 0:
            raise Failed(f"the grid at {address} failed")
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
    shares = [attempt["process"] for trial in attempts(home) for attempt in trial]
    return f"last time {address}, trials per worker: {sorted(shares.count(p) for p in set(shares))}"


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """The undisturbed grid, then the rounds."""
    moments, command = random.Random(seed), "python tests/soak grids"
    rounds = max(1, round(ROUNDS * scale))
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        small_grid(top, "soak", seeds=[0, 1, 2], params={"epochs": 8}, retries=3)
        if start(top / "whole", "cluster=none").wait() != 0:
            raise Failed("the undisturbed grid failed")
        whole = rows(top / "whole")
        for disturb, name in DISTURBANCES.items():
            if only not in name:
                continue
            with case(f"grid: {name}", command) as row:
                told = []
                for number in range(rounds):
                    home = top / f"{disturb.__name__}-{number}"
                    told.append(disturb(home, moments))
                    once = [sum(a.get("error") == "" for a in trial) for trial in attempts(home)]
                    if rows(home) != whole or once != [1] * TRIALS:
                        raise Failed(f"other rows, or a trial not done once: {told[-1]}")
                row["tried"] = f"{rounds} grids of {TRIALS} trials"
                row["outcome"] = f"same bytes, each trial finished once; {told[-1]}"


DISTURBANCES = {
    kills: "a worker killed, then the whole run",
    by_hand: "scheduler and two workers started by hand",
}
