"""No compiled kernel reads or writes beyond its arrays (``fences.py`` says how that is seen)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEEDS = 12


def fences(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, HERE / "fences.py", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("end", ["end", "start"])
def test_a_fence_ends_what_goes_beyond_it(end):
    done = fences(end, "beyond")
    assert done.stdout == "inside\n" and done.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("end", ["end", "start"])
def test_kernels_stay_inside_their_arrays(end):
    done = fences(end, SEEDS)
    assert done.returncode == 0, done.stdout[-100:] + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 3 * SEEDS
