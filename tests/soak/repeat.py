"""Determinism: the same rows at 1, 2 and 4 threads, in other processes, in another order."""

import tempfile
from pathlib import Path

from soak import stages
from soak.kills import Soak
from soak.record import Failed, case

METHODS = ("lt_gate", "lt_gate_published", "hlop", "lt_gate_local", "joint")


def threads(method: str, home: str, number: int) -> None:
    """A small training on so many threads."""
    import torch

    torch.set_num_threads(number)
    torch.set_num_threads = lambda _: None  # what the stage asks for is not what is tried here
    stages.work(f"training:{method}", home)


def rows(home: Path) -> dict[str, bytes]:
    """Every result file."""
    return {f.name: f.read_bytes() for f in (home / "runs/soak/results").glob("*.csv")}


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """Every method at every number of threads, then all of them in the opposite order."""
    command = "python tests/soak repeat"
    with tempfile.TemporaryDirectory() as folder, case("same rows: threads", command) as row:
        soak, runs = Soak(Path(folder), seed), 0
        first: dict[str, dict[str, bytes]] = {}
        orders = [(n, METHODS if n != 2 else METHODS[::-1]) for n in (1, 2, 4)]
        for number, methods in orders:
            for method in methods:
                home = Path(folder) / f"{method}-{number}"
                home.mkdir()
                process = soak._process(threads, method, str(home), number)
                process.join(900)
                found = rows(home)
                if process.exitcode != 0 or not found:
                    raise Failed(f"{method} on {number} threads ended with {process.exitcode}")
                if found != first.setdefault(method, found):
                    raise Failed(f"{method}: other rows on {number} threads than on 1")
                runs += 1
        row["tried"] = (
            f"{runs} runs ({len(METHODS)} methods on 1, 2, 4 threads; one order reversed)"
        )
        row["outcome"] = "result rows byte for byte the same"
