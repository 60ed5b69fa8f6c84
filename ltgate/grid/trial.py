"""One trial of a grid, wherever it runs: done once, and what became of it on record.

Everything lies in ``runs/<name>/grid``: result rows in ``results/<key>.csv``, written whole or not
at all, and ``trials/<key>.json``, the record of all attempts. Whoever works on a trial holds the
kernel's lock on ``trials/<key>.lock``, so no other process does, on this machine or (on a folder
shared by NFS 4 or any file system that passes on ``flock``) another; the lock dies with its holder.
Rows appear under the lock and are looked for under it: no trial runs twice.
"""

import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ltgate import paths, results, train
from ltgate.errors import UserError, one_line
from ltgate.files import atomic, lock, read_json
from ltgate.grid.spec import Job
from ltgate.params import Params
from ltgate.train import Trial

DONE, BUSY, FAILED = "done", "busy", "failed"


@dataclass(frozen=True)
class Task:
    """What a worker is sent: a trial in pieces that are validated there.

    Attributes:
        job: The trial: configuration, method, seed, cue.
        base: Parameters of the grid.
        measure: ``validation`` or ``test``.
        attempts: How often the trial may fail.
        since: Begin of the search (s since 1970): earlier failures do not count.
        code: Fingerprint of the learning code.
        home, data: Folders of runs and data.
    """

    job: Job
    base: Params
    measure: str
    attempts: int
    since: float
    code: str
    home: str
    data: str

    @property
    def record(self) -> Path:
        """The trial's record, where runs lie now."""
        return record(self.base.name, self.job)


class TrialFailed(Exception):
    """A trial that raised; its record holds the reason."""


def folder(name: str) -> Path:
    """Where the grid of run ``name`` keeps its rows and records."""
    return paths.run(name) / "grid"


def record(name: str, job: Job) -> Path:
    """The record of one of its trials."""
    return folder(name) / "trials" / f"{job.key}.json"


def work(task: Task, wait: bool = False) -> str:
    """Run one trial unless it has a result or has failed too often; what is the case now.

    Returns ``done``, ``failed`` (for good), or ``busy`` where another process is at it and ``wait``
    is false. Raises `TrialFailed` where another attempt is allowed.
    """
    places = {"LTGATE_HOME": task.home, "LTGATE_DATA_CACHE": task.data}
    with paths.environment(**places, LTGATE_PROGRESS="off"):
        try:
            with lock(task.record.with_suffix(".lock"), wait):
                return _attempt(task)
        except BlockingIOError:
            return BUSY


def _attempt(task: Task) -> str:
    where = folder(task.base.name)
    if results.exists(where, task.job.key):
        return DONE
    attempts = read_json(task.record).get("attempts", [])
    for attempt in attempts:
        if "seconds" not in attempt:
            attempt |= {"seconds": None, "error": "its process was killed"}
    recent = [attempt for attempt in attempts if attempt["started"] >= task.since]
    if len(recent) >= task.attempts:
        _write(task, attempts)
        return FAILED
    attempt: dict[str, Any] = {
        "started": time.time(),
        "machine": platform.node(),
        "process": os.getpid(),
    }
    attempts.append(attempt)
    _write(task, attempts)
    start = time.monotonic()
    try:
        _run(task, where)
    except Exception as error:  # whatever a trial raises, the others go on
        attempt["error"] = one_line(error, 300)
        hopeless = isinstance(error, UserError) or len(recent) + 1 >= task.attempts
    else:
        attempt["error"] = hopeless = ""
    attempt["seconds"] = round(time.monotonic() - start, 3)
    _write(task, attempts)
    if not attempt["error"]:
        return DONE
    if hopeless:  # a wrong value stays wrong
        return FAILED
    raise TrialFailed(attempt["error"])


def _run(task: Task, where: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(task.base.threads or 1)
    try:
        job, device = task.job, _device(task.base.device)
        params = task.base.with_(**job.configuration.overrides, device=device)
        trial = Trial(params, job.method, job.seed, job.cue)
        rows = train.measure(trial, task.measure)
        results.write(where, job.key, rows, trial.origin(measure=task.measure))
    finally:
        torch.set_num_threads(threads)


def _device(wanted: str) -> str:
    """The GPU of this worker: workers are numbered, and share the GPUs in turn."""
    if wanted not in ("auto", "cuda") or not torch.cuda.is_available():
        return wanted
    from distributed import get_worker

    number = str(get_worker().name).rsplit("-", 1)[-1]
    return f"cuda:{int(number) % torch.cuda.device_count()}" if number.isdigit() else "cuda"


def note(task: Task, error: BaseException) -> None:
    """Put on record that a trial took its worker down without a word (too often)."""
    with (
        paths.environment(LTGATE_HOME=task.home),
        lock(task.record.with_suffix(".lock")),
    ):
        attempts = read_json(task.record).get("attempts", [])
        text = one_line(error, 300)
        if attempts and "seconds" not in attempts[-1]:
            attempts[-1] |= {"seconds": None, "error": text}
        elif not attempts or attempts[-1]["started"] < task.since:
            attempts.append({"started": time.time(), "seconds": None, "error": text})
        _write(task, attempts)


def _write(task: Task, attempts: list[dict[str, Any]]) -> None:
    content = {
        "labels": task.job.configuration.labels,
        "method": task.job.method,
        "seed": task.job.seed,
        "cue": task.job.cue,
        "code": task.code,
        "attempts": attempts,
    }
    with atomic(task.record) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
