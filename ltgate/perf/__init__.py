"""Speed and memory on the machine at hand: the performance guide row by row, scaling, peers.

``python -m ltgate bench`` runs all of it (:mod:`ltgate.perf.report`), the notebook 06_performance
shows it. All of it looks at one workload: the published network at 5 % activity
(:mod:`ltgate.perf.bench`). A row of the guide is a line of ``guide.csv`` and the measuring function
that it names (:mod:`ltgate.perf.guide`).
"""

from ltgate.perf.bench import Bench
from ltgate.perf.compare import table as bench_table
from ltgate.perf.guide import table as guide_table
from ltgate.perf.sweeps import table as scaling_table
from ltgate.perf.training import stages as stage_table

__all__ = ["Bench", "bench_table", "guide_table", "scaling_table", "stage_table"]
