"""Packages that import a name's module when the name is first used."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` (PEP 562) of ``package``.

    ``homes`` says in which of its modules a name lies, ``module:other`` if it is
    called otherwise there.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, own = homes[name].partition(":")
        return getattr(import_module(f"{package}.{module}"), own or name)

    return find
