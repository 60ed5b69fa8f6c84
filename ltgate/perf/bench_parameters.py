"""Parameters of the measurements of speed."""

from typing import Literal

from ltgate.declare import Group


class BenchParameters(Group, compute=True):
    """Performance."""

    bench: Literal["smoke", "full"] = "smoke"
    """performance: a few batches and sizes, or whole epochs and every setting"""
