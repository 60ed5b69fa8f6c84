"""Everything that knows Lava. Lava is archived; nothing outside this folder imports it first.

:func:`ltgate.loihi.lava_backend.run.forward` takes and gives what :func:`ltgate.loihi.twin.forward`
does; ``README.md`` in :mod:`ltgate.loihi` says how to put another backend beside it. Importing this
package does not import Lava; :func:`missing` does, with what lets Lava 0.10, written for Python
3.10 and NumPy 1, run on today's: three of its modules.

* ``compiler.var_model`` has defaults whose class has no hash, which dataclasses refuse since Python
  3.11: while it is imported, dataclasses get one.
* ``runtime.message_infrastructure.multiprocessing`` sets the way processes start (``fork``), which
  fails where one is set: it finds none set, and what was set is set again.
* ``core.process.ports.ports`` calls ``numpy.reshape(newshape=)``, which NumPy 2.4 no longer knows.
"""

import contextlib
import dataclasses
import functools
import importlib
import multiprocessing
import warnings
from collections.abc import Iterator

import numpy as np

from ltgate.errors import UserError


@contextlib.contextmanager
def start_method(method: str | None) -> Iterator[None]:
    """Processes begun in the block start by ``method``; afterwards as was chosen before, if any."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        yield
    finally:
        if before is not None:
            multiprocessing.set_start_method(before, force=True)


@contextlib.contextmanager
def _hashed_dataclasses() -> Iterator[None]:
    plain = dataclasses.dataclass
    dataclasses.dataclass = functools.partial(plain, unsafe_hash=True)
    try:
        yield
    finally:
        dataclasses.dataclass = plain


@functools.cache
def missing() -> str:
    """Why Lava cannot run here, in one line; empty where it can. Imports it."""
    try:
        with warnings.catch_warnings(), start_method(None):
            warnings.simplefilter("ignore")
            ports = importlib.import_module("lava.magma.core.process.ports.ports").ReshapePort
            with _hashed_dataclasses():
                importlib.import_module("lava.magma.compiler.var_model")
            importlib.import_module("lava.magma.runtime.runtime")
        for name, shape in (("fwd", "shape"), ("bwd", "old_shape")):
            setattr(
                ports, f"get_transform_func_{name}",
                lambda port, shape=shape: functools.partial(np.reshape, shape=getattr(port, shape)),
            )  # fmt: skip
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
