"""Local learning rules, one per file; pure functions and small explicit states.

Readouts, gates, projectors and rules for filters are tables; a file in this folder may add to them,
and brings the parameters of what it adds.
"""

from ltgate.registry import import_files

import_files(__name__, __path__)
