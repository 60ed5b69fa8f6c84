"""Run what a grid has no result for: dask.distributed sends the trials to workers.

The same grid may be started again, or several times at once, here or on other machines that share
the folder: finished trials are skipped, and one that another process is at is looked at again when
everything else is done.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from distributed import Client, Future, as_completed

from ltgate import paths, provenance, results
from ltgate.grid import clusters
from ltgate.grid.spec import Configuration, Grid, Job
from ltgate.grid.trial import BUSY, DONE, FAILED, Task, folder, note, work
from ltgate.progress import track


def run(
    grid: Grid,
    configurations: Iterable[Configuration] | None = None,
    client: Client | None = None,
) -> dict[str, int]:
    """Run all trials of ``configurations`` (or of the whole grid) that have no result.

    ``client`` has the workers; without one they are those that the grid's parameters ask for.
    Returns how many are ``done`` now, have ``failed``, and were ``skipped`` because they had a
    result before. An interrupt (Ctrl-C) leaves a grid that the same call goes on with.
    """
    due, total = [], 0
    for job in grid.jobs(iter(configurations) if configurations is not None else None):
        total += 1
        if not results.exists(folder(grid.name), job.key):
            due.append(job)
    counts = Counter(skipped=total - len(due))
    tasks, label = list(_tasks(grid, due)), "trials"
    with contextlib.ExitStack() as stack:
        if client is None and tasks:
            client = stack.enter_context(clusters.client(grid, len(tasks)))
            if link := clusters.dashboard(client, grid.base):
                print(f"{len(tasks)} trials; dask's dashboard: {link}", flush=True)
        busy = []
        for task, outcome in _outcomes(client, tasks, label):
            if outcome == BUSY:
                busy.append(task)
            else:
                counts[outcome] += 1
        for _, outcome in _outcomes(client, busy, "trials of another process", wait=True):
            counts[outcome] += 1
    outcome = {DONE: counts[DONE], FAILED: counts[FAILED], "skipped": counts["skipped"]}
    print(", ".join(f"{number} {what}" for what, number in outcome.items()), flush=True)
    return outcome


def _outcomes(
    client: Client | None, tasks: list[Task], label: str, wait: bool = False
) -> Iterator[tuple[Task, str]]:
    """What became of each task, in the order in which they end."""
    if not tasks:
        return
    attempts = tasks[0].attempts
    futures: dict[Future, Task] = {
        client.submit(work, task, wait, pure=False, retries=attempts - 1): task for task in tasks
    }
    try:
        ended = _ended(client, futures, tasks[0].base.cluster)
        for future in track(ended, len(futures), label):
            task = futures.pop(future)
            if future.status == "finished":
                yield task, future.result()
            else:
                note(task, future.exception())
                yield task, FAILED
    finally:
        client.cancel(list(futures))


def _ended(client: Client, futures: dict[Future, Task], cluster: str) -> Iterator[Future]:
    """The futures in the order in which they end, as long as there are workers."""
    waited, watch = as_completed(list(futures), loop=client.loop), clusters.Watch(client, cluster)
    while not waited.is_empty():
        ended = waited.next_batch(block=False)
        if any(future.cancelled() for future in ended):
            raise watch.gone()
        yield from ended
        if not ended:
            watch.look()
            time.sleep(0.05)


def _tasks(grid: Grid, jobs: list[Job]) -> Iterator[Task]:
    code, since = provenance.learning_code(), time.time()
    for job in jobs:
        yield Task(
            base=grid.base,
            overrides=job.configuration.overrides,
            labels=job.configuration.labels,
            key=job.key,
            method=job.method,
            seed=job.seed,
            cue=job.cue,
            measure=grid.file.measure,
            attempts=grid.file.retries + 1,
            since=since,
            code=code,
            home=str(paths.root()),
            data=str(paths.data()),
        )
