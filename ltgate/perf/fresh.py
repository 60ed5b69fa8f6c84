"""Work in a fresh process, where no earlier work has left memory or threads.

The processes are forked from a server that has imported the library and loaded its compiled code
(:mod:`ltgate.perf.warm`), so that starting one takes a moment.
"""

import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver

# Also what a fresh process imports again of the process that starts it.
_PRELOADED = ["ltgate.perf.warm", "ltgate.perf.sweeps", "ltgate.__main__"]


def start() -> None:
    """Start the server, if it is not running; it gets ready by itself."""
    forkserver.set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()


def call[Result](function: Callable[..., Result], *arguments: object, threads: int = 0) -> Result:
    """``function(*arguments)`` in a process of its own on ``threads`` threads (0 = all).

    The function is one of a module's own, so that the process can find it.
    """
    start()
    # Plain pickle: sent as they are, tensors would share memory with this process.
    work = pickle.dumps((function, arguments, threads))
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        return pickle.loads(pool.submit(_call, work).result())


def _call(work: bytes) -> bytes:
    import torch

    function, arguments, threads = pickle.loads(work)
    torch.set_num_threads(threads or os.cpu_count() or 1)
    return pickle.dumps(function(*arguments))
