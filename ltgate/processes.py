"""Work side by side, each piece in a process of its own on one thread.

The processes are forked from a server that has imported the library, so that starting one takes a
moment; compiled code is loaded in each, by its first call.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, forkserver

import torch

from ltgate import progress
from ltgate.errors import UserError

CONTEXT = multiprocessing.get_context("forkserver")
_PRELOADED = ["ltgate.train", "ltgate.backends.event"]


def start_server(*more: str) -> None:
    """Start the server, if it is not running; it gets ready by itself, ``more`` modules with it."""
    forkserver.set_forkserver_preload([*_PRELOADED, *more])
    forkserver.ensure_running()


@contextmanager
def from_server() -> Iterator[None]:
    """Processes begun in the block do not run the user's script again."""
    start_server()
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def on_threads(number: int) -> Iterator[int]:
    """Inside, PyTorch computes on ``number`` threads; yields the number that there were."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def side_by_side[Item, Result](
    function: Callable[[Item], Result], items: Sequence[Item], number: int, label: str = ""
) -> list[Result]:
    """``function(item)`` of every item, on one thread each, in ``number`` processes at once.

    One at a time they run in this process. What one raises or warns of appears here; the others
    are stopped then. The processes end with this one, however that ends.

    Raises:
        UserError: A process was killed.
    """
    if min(number, len(items)) < 2:
        with on_threads(1):
            return [function(item) for item in progress.track(items, label=label)]
    results: list = [None] * len(items)
    waiting = iter(range(len(items)))
    workers, at = {}, {}  # by this process's end of a pipe: the process, and the item it is at

    def give(pipe: connection.Connection) -> None:
        following = next(waiting, None)
        if following is not None:
            pipe.send(items[following])
            at[pipe] = following

    try:
        for _ in range(min(number, len(items))):
            pipe, theirs = CONTEXT.Pipe()
            place = (dict(os.environ), os.getcwd())
            workers[pipe] = CONTEXT.Process(target=_serve, args=(theirs, function, *place))
            with from_server():
                workers[pipe].start()
            theirs.close()
            give(pipe)
        for _ in progress.track(items, label=label):
            pipe = connection.wait(list(at))[0]
            results[at.pop(pipe)] = _answer(pipe, workers[pipe], label)
            give(pipe)
    finally:
        for pipe, worker in workers.items():
            worker.kill()
            worker.join()
            pipe.close()
    return results


def _answer(pipe: connection.Connection, worker: multiprocessing.Process, label: str) -> object:
    """What a worker has to say: its result; an exception is raised, warnings are told."""
    try:
        result, error, warned = pipe.recv()
    except (EOFError, OSError):
        worker.join()
        raise UserError(
            f"{label}: a process of its own was killed (exit status {worker.exitcode}); if memory "
            "ran out, lower threads, which is how many run at once"
        ) from None
    for text in warned:
        progress.tell(text)
    if error is not None:
        raise error
    return result


def _serve(pipe: connection.Connection, function: Callable, variables: dict, folder: str) -> None:
    """Answer every item that comes through the pipe, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    torch.set_num_threads(1)
    progress.hide()
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        result = error = None
        with warnings.catch_warnings(record=True) as warned:
            try:
                result = function(item)
            except Exception as raised:
                error = raised
                if not isinstance(error, UserError):
                    error.add_note(traceback.format_exc())
        pipe.send((result, error, [str(warning.message) for warning in warned]))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
