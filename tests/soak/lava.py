"""Lava interrupted and killed at random moments: it ends, and no process or memory is left."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from soak.record import Failed, case

TESTS = Path(__file__).resolve().parent.parent
SHARED = Path("/dev/shm")  # where Lava's channels lie (Linux)
ACTORS = 5  # processes that the network has at least, when it is built
PATIENCE = 60  # seconds until everything has to be gone
SIGNALS = {"interrupted": signal.SIGINT, "terminated": signal.SIGTERM, "killed": signal.SIGKILL}


def endless() -> None:
    """A small network in Lava that would run for days."""
    import loihi_reference as reference

    from ltgate.loihi import lava_backend
    from ltgate.loihi.lava_backend import run

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    lava_backend.require()
    draw = np.random.default_rng(0)
    net = reference.draw(draw)
    print("start", flush=True)
    run.forward(net, reference.images(draw, net, 1), np.ones(10**7, int), seconds=10**6)


@contextlib.contextmanager
def begun() -> Iterator[subprocess.Popen]:
    """A process that runs the network, from when Lava is imported; it ends with the block."""
    path = os.pathsep.join((str(TESTS), str(TESTS.parent)))
    process = subprocess.Popen(
        [sys.executable, "-c", "from soak import lava; lava.endless()"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def built(process: subprocess.Popen) -> float:
    """Wait until the network is there, `PATIENCE` s at most; the seconds it took."""
    start = time.monotonic()
    while len(_children(process)) < ACTORS and time.monotonic() - start < PATIENCE:
        time.sleep(0.05)
    return time.monotonic() - start


def stop(number: signal.Signals, after: float | None = None) -> int:
    """Send a signal ``after`` so many seconds, or when the network is built.

    Returns how many processes of Lava there were; all of them and their memory must go.
    """
    shared = _shared()
    with begun() as process:
        built(process) if after is None else time.sleep(after)
        actors = _children(process)
        process.send_signal(number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{number.name} after {after} s: it goes on") from None
    _, alive = psutil.wait_procs(actors, timeout=PATIENCE)
    if alive:
        raise Failed(f"{number.name} after {after} s: {len(alive)} processes are left")
    if left := _shared() - shared:
        raise Failed(f"{number.name} after {after} s: {sorted(left)[0]} is left in {SHARED}")
    return len(actors)


def _children(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _shared() -> set[str]:
    return set(os.listdir(SHARED)) if SHARED.exists() else set()


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """Every signal, many times, from before the first process to well after the last."""
    moments = random.Random(seed)
    with begun() as process:
        building = built(process)
    for what, number in SIGNALS.items():
        if only not in what:
            continue
        with case(f"Lava: {what}", f"python tests/soak lava --only {what}") as row:
            times = max(1, round(15 * scale))
            found = [stop(number, moments.uniform(0, 2 * building)) for _ in range(times)]
            row["tried"] = f"{times} times"
            row["outcome"] = (
                f"each ended; none of its {min(found)} to {max(found)} processes and no shared "
                "memory left"
            )
