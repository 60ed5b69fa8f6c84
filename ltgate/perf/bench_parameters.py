"""Parameters of the measurements of speed."""

from typing import Literal

from ltgate.declare import Group


class BenchParameters(Group, compute=True):
    """Performance."""

    bench: Literal["few", "smoke", "full"] = "few"
    """performance: what takes seconds; everything, from a few batches and sizes; or everything,
    from whole epochs and every setting"""
