"""Grids: many configurations of one experiment, run once each, on one machine or many.

A grid file (``params/grids/*.yaml``) says what is varied (:mod:`ltgate.grid.spec`). ``run`` runs
what has no result yet; ``table`` shows what there is, ``best`` writes the winner as a parameter
file.
"""

from ltgate import lazy

_HOMES = {
    "Configuration": "spec",
    "Grid": "spec",
    "ablations": "tables",
    "best": "tables",
    "points": "tables",
    "report": "tables",
    "run": "execution",
    "slices": "tables",
    "table": "tables",
}
__all__ = [*_HOMES]
__getattr__ = lazy.names(__name__, _HOMES)
