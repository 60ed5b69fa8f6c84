"""Notebooks side by side, each in a kernel of its own.

A notebook says in its metadata which others it builds on, by number: ``"ltgate": {"after":
["02"]}``. It may run beside any other. One that says nothing builds on all before it and has the
machine for itself: one that measures times, say.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import psutil

from ltgate import memory, provenance
from ltgate.runner.jupyter import after, select

ROOM = 2e9  # bytes that a notebook may want for each of its processes
PATIENCE = 10  # seconds in which an interrupted kernel may end by itself


def number(threads: int) -> int:
    """How many run at once: as many as cores and memory allow. ``threads`` 0 = all cores."""
    cores = threads or provenance.cores()
    return max(1, min(cores, int(memory.available() / (ROOM * cores))))


def earlier(notebook: Path) -> list[Path]:
    """The notebooks that it builds on."""
    told = after(notebook)
    before = [other for other in select() if other.name < notebook.name]
    return before if told is None else [other for other in before if other.name[:2] in told]


def run(
    notebooks: list[Path], at_once: int, begin: Callable[[Path], None], work: Callable[[Path], None]
) -> Iterator[tuple[Path, float]]:
    """Run notebooks; each as it ends, and the seconds it took.

    ``begin`` is called in this thread, ``work`` in one of its own. When one fails, or this thread
    is interrupted, the kernels of the others are.
    """
    waiting, running = list(notebooks), dict[Future, Path]()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            while waiting or running:
                while len(running) < at_once and (chosen := _next(waiting, running.values())):
                    waiting.remove(chosen)
                    begin(chosen)
                    running[pool.submit(_seconds, work, chosen)] = chosen
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            _interrupt(running)


def expected(seconds: dict[Path, float], at_once: int) -> float:
    """Seconds until notebooks that take so many each have ended."""
    waiting, running, now = list(seconds), dict[Path, float](), 0.0
    while waiting or running:
        while len(running) < at_once and (chosen := _next(waiting, running)):
            waiting.remove(chosen)
            running[chosen] = now + seconds[chosen]
        first = min(running, key=running.__getitem__)
        now = running.pop(first)
    return now


def _next(waiting: list[Path], running: Collection[Path]) -> Path | None:
    """The first that may start now."""
    if any(after(notebook) is None for notebook in running):
        return None
    for notebook in waiting:
        alone = after(notebook) is None
        if not (alone and running) and not {*waiting, *running} & {*earlier(notebook)}:
            return notebook
    return None


def _seconds(work: Callable[[Path], None], notebook: Path) -> float:
    start = time.monotonic()
    try:
        work(notebook)
    finally:
        with contextlib.suppress(RuntimeError):  # there is none
            asyncio.get_event_loop().close()  # Jupyter leaves this thread's open
    return round(time.monotonic() - start, 2)


def _interrupt(running: Collection[Future]) -> None:
    """Interrupt the kernels until all have ended; in the end they are killed."""
    start = time.monotonic()
    while running:
        late = time.monotonic() > start + PATIENCE
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if "ipykernel_launcher" in child.cmdline():
                    child.send_signal(signal.SIGKILL if late else signal.SIGINT)
        if not wait(running, 0.5).not_done:
            return
