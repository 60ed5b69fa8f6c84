"""A small profiler: how long each stage of a training batch takes, on any learner as it is."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pandas as pd

from ltgate.perf.timing import wait

Item = TypeVar("Item")


class Stages:
    """Sums of wall time by stage; waits for the device at every boundary.

    ``with stages("load"): ...`` times a block; ``stages.attach(learner, "_update", "weights")``
    every call of a method of one object from then on; ``stages.each(batches, "load")`` an
    iterator's items. Stages are meant to lie side by side, not inside each other.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        wait(self.device)
        start = time.perf_counter()
        try:
            yield
        finally:
            wait(self.device)
            taken = time.perf_counter() - start
            self.seconds[stage] = self.seconds.get(stage, 0.0) + taken
            self.calls[stage] = self.calls.get(stage, 0) + 1

    def attach(self, owner: Any, method: str, stage: str) -> None:
        """Time every call of ``owner.method``; only this one object is changed."""
        original: Callable = getattr(owner, method)

        def timed(*arguments: Any, **options: Any) -> Any:
            with self(stage):
                return original(*arguments, **options)

        setattr(owner, method, timed)

    def each(self, items: Iterable[Item], stage: str) -> Iterator[Item]:
        """The items; the time that fetching each takes counts."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def table(self, total: float, batches: int) -> pd.DataFrame:
        """One row a stage: ``stage``, ``seconds`` per batch, ``share`` of the ``total`` seconds.

        What no stage covers is the row ``rest``.
        """
        rest = total - sum(self.seconds.values())
        rows = [*self.seconds.items(), ("rest", rest)]
        frame = pd.DataFrame(rows, columns=["stage", "seconds"])
        frame["share"] = frame["seconds"] / total
        frame["seconds"] /= batches
        return frame
