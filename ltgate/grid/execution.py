"""Run what a grid has no result for: dask.distributed sends the trials to workers.

Everything lies in ``runs/<name>/grid``: result rows in ``results/<key>.csv``, written whole or not
at all, and ``trials/<key>.json``, the record of all attempts. Whoever works on a trial holds the
kernel's lock on ``trials/<key>.lock``, so no other process does, on this machine or (on a folder
shared by NFS 4 or any file system that passes on ``flock``) another; the lock dies with its holder.
Rows appear under the lock and are looked for under it: no trial runs twice.

The same grid may be started again, or several times at once, here or on other machines that share
the folder: finished trials are skipped, and one that another process is at is looked at again when
everything else is done.
"""

import os
import platform
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from distributed import Client

from ltgate import paths, results, train
from ltgate.errors import UserError, one_line
from ltgate.files import lock, read_json, write_json
from ltgate.grid import clusters
from ltgate.grid.spec import Grid, Job
from ltgate.params import Params
from ltgate.processes import on_threads
from ltgate.progress import track
from ltgate.train import Trial

DONE, BUSY, FAILED = "done", "busy", "failed"


@dataclass(frozen=True)
class Task:
    """What a worker is sent: a trial in pieces that are validated there.

    Attributes:
        job: The trial: configuration, method, seed, cue.
        base: Parameters of the grid.
        measure: ``validation`` or ``test``.
        home, data: Folders of runs and data.
    """

    job: Job
    base: Params
    measure: str
    home: str
    data: str


class TrialFailed(Exception):
    """A trial that raised; its record holds the reason."""


def folder(name: str) -> Path:
    """Where the grid of run ``name`` keeps its rows and records."""
    return paths.run(name) / "grid"


def record(name: str, job: Job) -> Path:
    """The record of one of its trials."""
    return folder(name) / "trials" / f"{job.key}.json"


def run(grid: Grid) -> dict[str, int]:
    """Run all trials of a grid that have no result, on the workers that its parameters ask for.

    Returns how many are ``done`` now, have ``failed``, and were ``skipped`` because they had a
    result before. An interrupt (Ctrl-C) leaves a grid that the same call goes on with.
    """
    counts, todo = Counter(), []
    with lock(folder(grid.name) / ".lock", shared=True):  # nobody deletes the folder meanwhile
        for job in grid.jobs():
            if results.exists(folder(grid.name), job.key):
                counts["skipped"] += 1
            else:
                todo.append(job)
        if todo:
            with clusters.client(grid, len(todo)) as client:
                busy = []
                for job, outcome in _outcomes(client, grid, todo, "trials"):
                    counts[outcome] += 1
                    if outcome == BUSY:
                        busy.append(job)
                label = "trials of another process"
                for _, outcome in _outcomes(client, grid, busy, label, wait=True):
                    counts[outcome] += 1
    outcome = {what: counts[what] for what in (DONE, FAILED, "skipped")}
    print(", ".join(f"{number} {what}" for what, number in outcome.items()), flush=True)
    return outcome


def _outcomes(
    client: Client, grid: Grid, jobs: list[Job], label: str, wait: bool = False
) -> Iterator[tuple[Job, str]]:
    """What became of each trial, in the order in which they end."""
    often = {"pure": False, "retries": grid.file.retries}
    futures = {client.submit(work, task(grid, job), wait, **often): job for job in jobs}
    if not futures:
        return
    try:
        ended = clusters.ended(client, list(futures), grid.base.cluster)
        for future in track(ended, len(futures), label):
            yield futures.pop(future), future.result() if future.status == "finished" else FAILED
    finally:
        client.cancel(list(futures))


def task(grid: Grid, job: Job) -> Task:
    """What a worker is sent for a trial."""
    return Task(job, grid.base, grid.file.measure, str(paths.root()), str(paths.data()))


def work(task: Task, wait: bool = False) -> str:
    """Run one trial unless it has a result; what is the case now.

    Returns ``done``, ``failed`` (a wrong value stays wrong), or ``busy`` where another process is
    at it and ``wait`` is false. Raises `TrialFailed` where another attempt may do better.
    """
    places = {"LTGATE_HOME": task.home, "LTGATE_DATA_CACHE": task.data}
    with paths.environment(**places, LTGATE_PROGRESS="off"):
        file = record(task.base.name, task.job)
        try:
            with lock(file.with_suffix(".lock"), wait):
                return _attempt(task, file)
        except BlockingIOError:
            return BUSY


def _attempt(task: Task, file: Path) -> str:
    if results.exists(folder(task.base.name), task.job.key):
        return DONE
    attempt: dict[str, Any] = {"started": time.time(), "machine": platform.node()}
    attempt |= {"process": os.getpid(), "seconds": None, "error": "its process was killed"}
    labels = task.job.configuration.labels
    kept = {
        "trial": ", ".join(f"{axis} = {label}" for axis, label in labels.items()),
        "method": task.job.method,
        "seed": task.job.seed,
        "cue": task.job.cue,
        "attempts": [*read_json(file).get("attempts", []), attempt],
    }
    write_json(file, kept)  # what stands there if this process dies
    start = time.monotonic()
    try:
        _run(task)
        attempt["error"] = ""
    except Exception as error:  # whatever a trial raises, the others go on
        attempt["error"] = one_line(error, 300)
        if not isinstance(error, UserError):
            raise TrialFailed(attempt["error"]) from None
    finally:
        attempt["seconds"] = round(time.monotonic() - start, 3)
        write_json(file, kept)
    return FAILED if attempt["error"] else DONE


def _run(task: Task) -> None:
    job, device = task.job, _device(task.base.device)
    with on_threads(task.base.threads or 1):
        params = task.base.with_(**job.configuration.overrides, device=device)
        trial = Trial(params, job.method, job.seed, job.cue)
        made = trial.made()
        rows = train.measure(trial, task.measure)
        origin = trial.origin(made, task.measure, measure=task.measure)
        results.write(folder(task.base.name), job.key, rows, origin)


def _device(wanted: str) -> str:
    """The GPU of this worker: workers are numbered, and share the GPUs in turn."""
    if wanted not in ("auto", "cuda") or not torch.cuda.is_available():
        return wanted
    from distributed import get_worker

    number = str(get_worker().name).rsplit("-", 1)[-1]
    return f"cuda:{int(number) % torch.cuda.device_count()}" if number.isdigit() else "cuda"
