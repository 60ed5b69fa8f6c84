"""Grids: many configurations of one experiment, run once each, on one machine or many.

A grid file (``params/grids/*.yaml``) says what is varied (:mod:`ltgate.grid.spec`). ``run`` runs
what has no result yet, ``halve`` by rungs that spend the effort on what looks best, ``search`` as
the file says; ``table`` shows what there is, ``best`` writes the winner as a parameter file.
"""

from ltgate.grid.cost import cost
from ltgate.grid.halving import halve, search
from ltgate.grid.run import run
from ltgate.grid.spec import Configuration, Grid
from ltgate.grid.tables import ablations, best, points, slices, table, tabulate

__all__ = [
    "Configuration",
    "Grid",
    "ablations",
    "best",
    "cost",
    "halve",
    "points",
    "run",
    "search",
    "slices",
    "table",
    "tabulate",
]
