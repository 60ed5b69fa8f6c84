"""Speed and memory on the machine at hand: the performance guide row by row, scaling, peers.

``python -m ltgate bench`` runs all of it (:mod:`.bench_tables`), the notebook 06_performance
shows it. All of it looks at one workload: the published network at 5 % activity
(:mod:`ltgate.perf.bench`). A row of the guide is a line of ``guide.csv`` and the measuring function
that it names (:mod:`ltgate.perf.guide`).
"""

from ltgate import lazy

_HOMES = {
    "Bench": "bench",
    "bench_table": "side_by_side:table",
    "guide_table": "guide:table",
    "published": "bench_tables",
    "scaling_table": "sweeps:table",
    "stage_table": "training",
    "write": "bench_tables",
}
__all__ = [*_HOMES]
__getattr__ = lazy.names(__name__, _HOMES)
