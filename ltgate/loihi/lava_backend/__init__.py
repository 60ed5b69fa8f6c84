"""Everything that knows Lava. Lava is archived; nothing outside this folder imports it.

:func:`ltgate.loihi.lava_backend.run.forward` takes and gives what :func:`ltgate.loihi.twin.forward`
does; ``README.md`` in :mod:`ltgate.loihi` says how to put another backend beside it.
"""

import functools
import importlib
import importlib.util
import multiprocessing
import sys
import warnings

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
    _load()


def _load() -> None:
    """Import Lava's runtime. It sets the way processes start, and fails where that is set."""
    choose = multiprocessing.set_start_method
    multiprocessing.set_start_method = functools.partial(choose, force=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("lava.magma.runtime.message_infrastructure.multiprocessing")
    finally:
        multiprocessing.set_start_method = choose


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
