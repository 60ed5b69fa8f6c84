"""Grids: many configurations of one experiment, run once each, on one machine or many.

A grid file (``params/grids/*.yaml``) says what is varied (:mod:`ltgate.grid.spec`). ``run`` runs
what has no result yet, ``halve`` by rungs that spend the effort on what looks best, ``search`` as
the file says; ``table`` shows what there is, ``best`` writes the winner as a parameter file.
"""

from ltgate import lazy

_HOMES = {
    "Configuration": "spec",
    "Grid": "spec",
    "ablations": "tables",
    "best": "tables",
    "cost": "cost_curve",
    "halve": "halving",
    "points": "tables",
    "run": "execution",
    "search": "halving",
    "slices": "tables",
    "table": "tables",
    "tabulate": "tables",
}
__all__ = [*_HOMES]
__getattr__ = lazy.names(__name__, _HOMES)
