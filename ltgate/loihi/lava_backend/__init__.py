"""Everything that knows Lava. Lava is archived; nothing outside this folder imports it.

:func:`ltgate.loihi.lava_backend.run.forward` takes and gives what :func:`ltgate.loihi.twin.forward`
does; ``README.md`` in :mod:`ltgate.loihi` says how to put another backend beside it.
"""

import importlib.util
import sys

from ltgate.errors import UserError


def available() -> bool:
    """Whether Lava is installed."""
    return importlib.util.find_spec("lava") is not None and _has("lava.magma.core.process.process")


def require() -> None:
    """Raise `UserError`, one line, if Lava is not there."""
    if not available():
        version = ".".join(map(str, sys.version_info[:2]))
        raise UserError(
            f"Lava is not installed (Python {version}; it runs on 3.10 alone): the twin, mapping "
            "and estimate work without it"
        )


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
