"""All tables and figures of the benchmark."""

from pathlib import Path

import pandas as pd

from ltgate import paths
from ltgate.perf.bench import Bench
from ltgate.perf.guide import table as guide_table
from ltgate.perf.side_by_side import table as bench_table
from ltgate.perf.sweeps import table as scaling_table
from ltgate.perf.training import stage_table
from ltgate.progress import track

TABLES = {
    "table_guide": guide_table,
    "table_bench": bench_table,
    "table_stages": stage_table,
    "table_scaling": scaling_table,
}


def published(name: str) -> pd.DataFrame:
    """The committed table of whole epochs on MNIST, by its name in ``TABLES``."""
    from ltgate import figures  # matplotlib is no part of what a fresh process measures

    return figures.read_table(paths.published() / "figures" / "bench" / f"{name}.csv")


def write(bench: Bench) -> list[Path]:
    """Measure all; tables and figures into ``figures/<name>``. Returns the tables' paths.

    The sweeps, and their figure, where the bench measures everything.
    """
    from ltgate import figures  # matplotlib is no part of what a fresh process measures

    folder, made = paths.figures(bench.params.name), []
    names = [*TABLES] if bench.extent.everything else [*TABLES][:-1]
    for name in track(names, label="benchmark"):
        figures.save_table(TABLES[name](bench), folder, name)
        made.append(folder / f"{name}.csv")
    if bench.extent.everything:
        figures.save_figure(figures.scaling(scaling_table(bench)), folder, "scaling")
    return made
