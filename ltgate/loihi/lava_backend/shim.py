"""What lets Lava 0.10, written for Python 3.10 and NumPy 1, run on today's: three modules of it.

* ``compiler.var_model`` has defaults whose class has no hash, which dataclasses refuse since Python
  3.11: while it is imported, dataclasses get one.
* ``runtime.message_infrastructure.multiprocessing`` sets the way processes start (``fork``), which
  fails where one is set: it finds none set, and what was set is set again.
* ``core.process.ports.ports`` calls ``numpy.reshape(newshape=)``, which NumPy 2.4 no longer knows.

All hold in processes forked or spawned from one that imported this package, whatever they unpickle.
"""

import contextlib
import dataclasses
import functools
import importlib.machinery
import multiprocessing
import sys
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

import numpy as np


@contextlib.contextmanager
def hashed_dataclasses(_: ModuleType) -> Iterator[None]:
    """Dataclasses made in the block have a hash."""
    plain = dataclasses.dataclass
    dataclasses.dataclass = functools.partial(plain, unsafe_hash=True)
    try:
        yield
    finally:
        dataclasses.dataclass = plain


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
def reshape_by_shape(ports: ModuleType) -> Iterator[None]:
    """Virtual ports made afterwards reshape by the argument's present name."""
    yield
    port = ports.ReshapePort
    port.get_transform_func_fwd = lambda self: functools.partial(np.reshape, shape=self.shape)
    port.get_transform_func_bwd = lambda self: functools.partial(np.reshape, shape=self.old_shape)


AROUND = {
    "lava.magma.core.process.ports.ports": reshape_by_shape,
    "lava.magma.compiler.var_model": hashed_dataclasses,
    "lava.magma.runtime.message_infrastructure.multiprocessing": lambda _: start_method(None),
}


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with AROUND[module.__name__](module):
            super().exec_module(module)


class Finder:
    """Finds the three modules; an entry of :data:`sys.meta_path`."""

    @staticmethod
    def find_spec(
        name: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec with a loader that holds the module's block around it; None for all others."""
        if name not in AROUND:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


def _begin(kind: type) -> Any:
    """An empty process; unpickling it imports this module before all that it will carry."""
    return kind.__new__(kind)


def install() -> None:
    """Here, and in processes that :mod:`multiprocessing` spawns from here (forked ones have it)."""
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
    kinds = {
        multiprocessing.get_context(m).Process for m in multiprocessing.get_all_start_methods()
    }
    for kind in kinds | {multiprocessing.Process}:
        ForkingPickler.register(kind, lambda made: (_begin, (type(made),), vars(made)))
