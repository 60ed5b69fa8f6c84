"""One progress helper that reads well in JupyterLab, in a terminal and in a saved notebook."""

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def track(items: Iterable[Item], total: int | None = None, label: str = "") -> Iterator[Item]:
    """Iterate over ``items`` showing a bar with the rate and the time left.

    Text bars only, on standard error in a terminal and nothing when the output is a file. In a
    notebook the bar lives in one display that is updated in place and cleared at the end, so a
    saved notebook never keeps a bar that is stuck.
    """
    if os.environ.get("LTGATE_PROGRESS") == "off":  # nbval would compare the bar
        yield from items
    elif _in_notebook():
        yield from _notebook_bar(items, total, label)
    else:
        quiet = not sys.stderr.isatty()
        yield from tqdm(items, total=total, desc=label, disable=quiet, leave=False)


def tell(text: str) -> None:
    """Warn of something about a network that the user may want to change; once for each text."""
    if os.environ.get("LTGATE_PROGRESS") != "off":  # a notebook's committed output stays the same
        warnings.warn(text, stacklevel=3)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    instance = shell.get_ipython() if shell else None
    return instance is not None and hasattr(instance, "kernel")


def _notebook_bar(items: Iterable[Item], total: int | None, label: str) -> Iterator[Item]:
    import io
    import time

    from IPython.display import clear_output

    bar = tqdm(items, total=total, desc=label, file=io.StringIO(), mininterval=0.5)
    shown = time.monotonic()
    drawn = False
    for item in bar:
        yield item
        if time.monotonic() - shown > 0.5:
            clear_output(wait=True)
            print(str(bar))
            drawn, shown = True, time.monotonic()
    if drawn:
        clear_output(wait=False)
