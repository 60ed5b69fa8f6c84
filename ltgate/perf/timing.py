"""Times of several pieces of work, side by side in one run."""

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch

from ltgate.stages import wait


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Wall time of one call (s)."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def interleaved[Key: Hashable](
    candidates: dict[Key, Callable[[], object]], repeats: int, device: str = "cpu"
) -> dict[Key, float]:
    """Shortest wall time (s) of each candidate over ``repeats`` rounds.

    Every round calls every candidate once, so that a change in the machine's load meets all of
    them. The shortest time is kept: other processes only ever add to it. With two rounds or more
    it also leaves out what only a first call does.
    """
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(repeats):
        for key, work in candidates.items():
            best[key] = min(best[key], seconds(work, device))
    return best


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute on ``number`` CPU threads for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
