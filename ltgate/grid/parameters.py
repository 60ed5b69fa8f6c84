"""Parameters of grids."""

from typing import Annotated

from pydantic import Field

from ltgate.declare import Count, FilePath, Group


class GridParameters(Group, compute=True):
    """Grid."""

    grid: Annotated[FilePath, Field(min_length=1)] = "published"
    """grid file: a name in params/grids, or a path"""
    cluster: Annotated[str, Field(pattern=r"^(none|local|slurm|pbs|sge|(tcp|tls)://\S+)$")] = (
        "local"
    )
    """where a grid runs: in this process, in worker processes, in a cluster's jobs, or at a
    scheduler's address"""
    grid_workers: Annotated[int, Field(ge=0, le=100_000)] = 0
    """worker processes or cluster jobs of a grid; 0 = one per core, or per GPU slot"""
    trials_per_gpu: Count = 1
    """trials of a grid that share a GPU"""
