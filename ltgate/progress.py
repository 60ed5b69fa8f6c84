"""One progress helper that reads well in JupyterLab, in a terminal and in a saved notebook."""

import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import length_hint
from typing import Any

from tqdm import tqdm

INTERVAL_S = 0.5  # between two updates of a notebook's bars; shorter loops show none
hidden = False


def track[Item](items: Iterable[Item], total: int | None = None, label: str = "") -> Iterator[Item]:
    """Iterate over ``items`` showing a bar with the rate and the time left.

    Text bars only, on standard error in a terminal and nothing when the output is a file. In a
    notebook the bars of a cell, with those inside them, live in one output that is updated in
    place; the last of the outermost stays, at 100 %, with the time that it took.
    """
    if unseen():
        yield from items
    elif _in_notebook():
        yield from _notebook_bar(items, total, label)
    else:
        quiet = not sys.stderr.isatty()
        yield from tqdm(items, total=total, desc=label, disable=quiet, leave=False)


def hide() -> None:
    """No bars and no word on waiting from this process, which works for another."""
    global hidden
    hidden = True


def unseen() -> bool:
    """Whether nobody looks: this process works for another, or ``LTGATE_PROGRESS`` is ``off``."""
    return hidden or os.environ.get("LTGATE_PROGRESS") == "off"  # nbval would compare the bar


def tell(text: str) -> None:
    """Warn of something about a network that the user may want to change; once for each text."""
    if os.environ.get("LTGATE_PROGRESS") != "off":  # a notebook's committed output stays the same
        warnings.warn(text, stacklevel=3)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    instance = shell.get_ipython() if shell else None
    return instance is not None and hasattr(instance, "kernel")


@dataclass(eq=False)
class _Bar:
    label: str
    total: int | None
    done: int = 0
    begin: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        elapsed = time.monotonic() - self.begin
        return tqdm.format_meter(self.done, self.total, elapsed, prefix=self.label)


@dataclass(eq=False)
class _Cell:
    """The bars that are open in a notebook's cell, the outermost first, in one output."""

    number: int | None = None
    bars: list[_Bar] = field(default_factory=list)
    handle: Any = None
    shown: float = field(default_factory=time.monotonic)

    def draw(self) -> None:
        from IPython.display import display

        text = {"text/plain": "\n".join(map(str, self.bars))}
        if self.handle is None:
            self.handle = display(text, raw=True, display_id=True)
        else:
            self.handle.update(text, raw=True)
        self.shown = time.monotonic()


_cell = _Cell()


def _notebook_bar[Item](items: Iterable[Item], total: int | None, label: str) -> Iterator[Item]:
    global _cell
    number = sys.modules["IPython"].get_ipython().execution_count
    if number != _cell.number:
        _cell = _Cell(number)
    cell, bar = _cell, _Bar(label, length_hint(items) or None if total is None else total)
    cell.bars.append(bar)
    try:
        for item in items:
            yield item
            bar.done += 1
            if time.monotonic() - cell.shown > INTERVAL_S:
                cell.draw()
    finally:
        if cell.bars == [bar] and cell.shown > bar.begin:  # it was drawn: as it ended
            cell.draw()
        cell.bars.remove(bar)
