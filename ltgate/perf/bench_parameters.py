"""Parameters of the measurements of speed."""

from typing import Literal

from ltgate.declare import Group


class BenchParameters(Group, compute=True):
    """Performance."""

    bench: Literal["few", "full"] = "few"
    """performance: what takes seconds; or everything, from whole epochs and every setting"""
