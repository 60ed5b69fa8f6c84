"""Kill training at random moments, resume, and compare with an unbroken run.

    python tests/soak.py --kills 10

Every round trains one method on two small tasks from the digits in a process of its own, kills it
with SIGKILL after a random time, starts it again until it ends, and compares the result rows byte
for byte with those of a run that nobody disturbed.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METHODS = ("lt_gate", "sequential", "joint", "lt_gate_published")
PROGRAM = """
import sys
from ltgate import train
from ltgate.params import Params, TaskSpec

tasks = [
    TaskSpec(name="fast", classes=[0, 1, 2], frame_rate_hz=500.0, duration_ms=60.0),
    TaskSpec(name="slow", classes=[3, 4, 5], frame_rate_hz=50.0, duration_ms=200.0),
]
params = Params(
    name="soak", tasks=tasks, channels=[4, 8, 8], hidden=[16], methods=[sys.argv[1]], threads=1,
    train_images=200, validation_images=40, test_images=40, hebbian_images=40, batch_size=8,
    checkpoint_every=3, control=False,
)
train.run(params)
"""


def start(home: Path, method: str) -> subprocess.Popen:
    """Train in a new process that keeps everything under ``home``."""
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "LTGATE_HOME": str(home), "PYTHONPATH": root}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, method], env=environment)


def finish(home: Path, method: str) -> float:
    """Run to the end; seconds taken."""
    began = time.monotonic()
    if start(home, method).wait() != 0:
        sys.exit(f"{method}: training failed")
    return time.monotonic() - began


def rows(home: Path) -> dict[str, bytes]:
    """Every result file."""
    return {file.name: file.read_bytes() for file in (home / "runs/soak/results").glob("*.csv")}


def main() -> None:
    """Rounds over the methods until the wanted number of kills has hit a running process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments, hit, number = random.Random(options.seed), 0, 0
    while hit < options.kills:
        method = METHODS[number % len(METHODS)]
        number += 1
        with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as broken:
            seconds = finish(Path(whole), method)
            began = time.monotonic()
            for _ in range(3):
                process = start(Path(broken), method)
                try:
                    process.wait(timeout=moments.uniform(0.3, 1.0) * seconds)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    hit += 1
            finish(Path(broken), method)
            same = rows(Path(whole)) == rows(Path(broken)) != {}
            took = time.monotonic() - began
            print(f"{method}: {hit} kills so far, same rows: {same} ({took:.0f} s)", flush=True)
            if not same:
                sys.exit(1)


if __name__ == "__main__":
    main()
