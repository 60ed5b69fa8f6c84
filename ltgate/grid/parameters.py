"""Parameters of grids, and the options of clusters that a grid file may give."""

from typing import Annotated

from pydantic import Field

from ltgate.declare import Count, FilePath, Group

# Kind of cluster -> names in a grid file's ``options``. All else is for dask's own configuration,
# which is the user's and no stranger's: some of it runs code, or lets others in.
_JOB = ("cores", "interface", "job_name", "memory", "processes", "queue", "walltime")
OPTIONS = {
    "none": (),
    "local": ("memory_limit",),
    "slurm": (*_JOB, "account", "job_cpu", "job_mem"),
    "pbs": (*_JOB, "account", "resource_spec"),
    "sge": (*_JOB, "project", "resource_spec"),
}


class GridParameters(Group, compute=True):
    """Grid."""

    grid: Annotated[FilePath, Field(min_length=1)] = "published"
    """grid file: a name in params/grids, or a path"""
    cluster: Annotated[str, Field(pattern=r"^(none|local|slurm|pbs|sge|(tcp|tls)://\S+)$")] = (
        "local"
    )
    """where a grid runs: in this process, in worker processes, in a cluster's jobs, or at a
    scheduler's address: of tcp:// only what LTGATE_TRUSTED_SCHEDULER names, for whoever answers
    there can run code here"""
    grid_workers: Annotated[int, Field(ge=0, le=100_000)] = 0
    """worker processes or cluster jobs of a grid; 0 = one per core, or per GPU slot"""
    trials_per_gpu: Count = 1
    """trials of a grid that share a GPU"""
