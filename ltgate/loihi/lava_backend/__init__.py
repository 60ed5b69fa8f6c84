"""Everything that knows Lava. Lava is archived; nothing outside this folder imports it first.

:func:`ltgate.loihi.lava_backend.run.forward` takes and gives what :func:`ltgate.loihi.twin.forward`
does; ``README.md`` in :mod:`ltgate.loihi` says how to put another backend beside it. Importing this
package does not import Lava; it lets a current Python do so (:mod:`.shim`).
"""

import functools
import importlib
import warnings

from ltgate.errors import UserError
from ltgate.loihi.lava_backend import shim

shim.install()


@functools.cache
def missing() -> str:
    """Why Lava cannot run here, in one line; empty where it can. Imports it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("lava.magma.runtime.runtime")
    except Exception as error:  # whatever a Python or package newer than Lava makes of it
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return f"Lava cannot be imported ({reason}): the twin, mapping and estimate work without it"
    return ""


def available() -> bool:
    """Whether Lava can be imported."""
    return not missing()


def require() -> None:
    """Raise `UserError`, one line, if Lava cannot be imported."""
    if missing():
        raise UserError(missing())
