"""A run of Lava that always ends.

Lava waits without limit: after an exception in a model, in its constructor, after an interrupt. A
session runs without blocking, polls, and at the end of its block, however that comes, no process
and no shared memory is left. Model exceptions are raised with their text. Processes die with the
parent, even when that is killed (Linux). They are forked, as Lava has them, whatever way the
program starts its own.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal
from lava.magma.runtime.runtime import Runtime

from ltgate.loihi.lava_backend import start_method

GRACE_S = 5.0
_POLL_S = 0.002
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


class LavaFailed(RuntimeError):
    """A model raised, a process died, or the deadline passed."""


class Session:
    """One network from compilation to its end; a context manager.

    Args:
        process: Any process of the network.
        seconds: Deadline for everything in the block.
        tag: ``fixed_pt`` or ``floating_pt``.
    """

    def __init__(self, process: AbstractProcess, seconds: float, tag: str = "fixed_pt") -> None:
        self.end = time.monotonic() + seconds
        self.seconds = seconds
        self.process, self.tag = process, tag
        self.runtime: Runtime | None = None

    def __enter__(self) -> "Session":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about files that the compiler cannot execute
                executable = self.process.compile(Loihi2SimCfg(select_tag=self.tag))
            self._start(executable)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, executable: Any) -> None:
        """What ``Runtime.initialize`` does, polling."""
        runtime = self.runtime = Runtime(executable, ActorType.MultiProcessing)
        executable.assign_runtime_to_all_processes(runtime)
        with _forking():
            runtime._build_watchdog_manager()
            runtime._build_message_infrastructure()
            runtime._build_channels()
            runtime._build_sync_channels()
            runtime._build_processes()
            runtime._build_runtime_services()
        runtime._start_ports()
        for answers in runtime.exception_q:
            while answers.empty():
                self._check()
                time.sleep(_POLL_S)
            if error := answers.get():
                raise LavaFailed(f"{type(error).__name__}: {error}\n{error.trace}") from error
        runtime._is_initialized = runtime._is_started = True

    def run(self, steps: int) -> None:
        """Run ``steps`` steps; `LavaFailed` if a model raises, a process dies or time is up."""
        runtime = self.runtime
        runtime._run(RunSteps(steps, blocking=False))
        waiting = list(runtime.service_to_runtime)
        while waiting:
            for port in [port for port in waiting if port.probe()]:
                if enum_equal(port.recv(), MGMT_RESPONSE.DONE):
                    waiting.remove(port)
                else:  # a model failed: its exception comes by another way
                    self.end = min(self.end, time.monotonic() + GRACE_S)
            self._check()
            time.sleep(_POLL_S)
        runtime._is_running = False

    def _check(self) -> None:
        actors, now = self.runtime._messaging_infrastructure.actors, time.monotonic()
        dead = [actor for actor in actors if not actor.is_alive()]
        for actor in actors:
            if actor.exception:
                error, trace = actor.exception
                raise LavaFailed(f"{type(error).__name__}: {error}\n{trace}")
        if dead:  # by an exception that is still to come, or killed
            self.end = min(self.end, now + GRACE_S)
        if now > self.end and dead:
            raise LavaFailed(f"a process of Lava died (exit code {dead[0].exitcode})")
        if now > self.end:
            raise LavaFailed(f"Lava did not end within {self.seconds:g} s")

    def close(self) -> None:
        """End every process and free the shared memory; safe to repeat."""
        runtime, self.runtime = self.runtime, None
        if runtime is None:
            return
        runtime._is_started = runtime._is_running = False  # else its destructor would wait
        infrastructure = runtime._messaging_infrastructure
        if infrastructure is None:
            return
        for end in ("terminate", "kill"):
            for actor in infrastructure.actors:
                if actor.is_alive():
                    getattr(actor, end)()
            until = time.monotonic() + GRACE_S / 2
            for actor in infrastructure.actors:
                super(type(actor), actor).join(max(0.0, until - time.monotonic()))
        for port in (*runtime.runtime_to_service, *runtime.service_to_runtime):
            with contextlib.suppress(Exception):
                port.join()
            port._array = []  # it would keep the memory mapped
        runtime._open_ports.clear()
        if infrastructure.smm is not None:
            with contextlib.suppress(Exception):
                infrastructure.smm.shutdown()
        with contextlib.suppress(Exception):
            runtime._watchdog_manager.stop()


_forks = False


@contextlib.contextmanager
def _forking() -> Iterator[None]:
    """Processes forked in the block end with this one, and leave interrupts to it.

    An interrupt waits until the block ends: Python loses those that come while it forks.
    """
    global _forks
    came = []
    here = threading.current_thread() is threading.main_thread()  # else no interrupt comes
    before = signal.signal(signal.SIGINT, lambda *told: came.append(told)) if here else None
    _forks = True
    try:
        with start_method("fork"):
            yield
    finally:
        _forks = False
        if here:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if came:
        signal.raise_signal(signal.SIGINT)


def _in_child() -> None:
    global _forks
    if not _forks:
        return
    _forks = False  # its own children are its own affair
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


os.register_at_fork(after_in_child=_in_child)
