"""All tables and figures of the benchmark, written into ``figures/<name>``."""

from pathlib import Path

from ltgate import figures, paths
from ltgate.params import Params
from ltgate.perf import compare, guide, sweeps, training
from ltgate.perf.bench import Bench
from ltgate.progress import track


def run(params: Params) -> list[Path]:
    """Measure everything; returns the files written (the tables)."""
    folder, bench = paths.figures(params.name), Bench(params)
    tables = {
        "table_guide": guide.table,
        "table_bench": compare.table,
        "table_stages": training.stages,
        "table_scaling": sweeps.table,
    }
    made = []
    for name, measure in track(tables.items(), len(tables), "benchmark"):
        figures.save_table(measure(bench), folder, name)
        made.append(folder / f"{name}.csv")
    figures.save_figure(figures.scaling(sweeps.table(bench)), folder, "scaling")
    return made
