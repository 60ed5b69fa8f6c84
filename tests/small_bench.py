"""A benchmark small enough for tests."""

from functools import cache

from ltgate.params import Params
from ltgate.perf.bench import Bench, Extent


@cache  # what is measured once a bench is measured once a process
def small_bench(threads: int = 1) -> Bench:
    """A bench on a small network, one round of everything."""
    made = Bench(Params(threads=threads))
    made.published = made.published.with_(channels=[4, 8], strides=[2, 2], hidden=[16])
    made.extent = Extent(True, 1, 2, 10, 3, (1,), (1, 2, 4), (2, 4), (1, 2), (32, 64))
    return made
