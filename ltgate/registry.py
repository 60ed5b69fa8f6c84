"""Tables of what a parameter can name, and the files that fill them."""

import pkgutil
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, ClassVar, TypeVar

Rule = TypeVar("Rule")


class Registry(dict[str, Any]):
    """Rules by name; ``@TABLE.add("name")`` above a class or a function enters it."""

    every: ClassVar[list["Registry"]] = []

    def __init__(self) -> None:
        super().__init__()
        self.every.append(self)

    def add(self, name: str) -> Callable[[Rule], Rule]:
        """Enter what stands below under ``name``."""

        def enter(rule: Rule) -> Rule:
            self[name] = rule
            return rule

        return enter


def import_files(package: str, folders: Iterable[str]) -> None:
    """Import every file of a package (its ``__path__``), so that each enters what it brings."""
    for file in pkgutil.iter_modules(folders):
        import_module(f"{package}.{file.name}")


def extended() -> bool:
    """Whether a table has a rule that no file of the library brings: other processes lack it."""
    rules = (rule for table in Registry.every for rule in table.values())
    return any(rule.__module__.partition(".")[0] != "ltgate" for rule in rules)
