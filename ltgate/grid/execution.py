"""Run what a grid has no result for: dask.distributed sends the trials to workers.

The same grid may be started again, or several times at once, here or on other machines that share
the folder: finished trials are skipped, and one that another process is at is looked at again when
everything else is done.
"""

import time
from collections import Counter
from collections.abc import Iterator

from distributed import Client, Future, as_completed

from ltgate import paths, provenance, results
from ltgate.grid import clusters
from ltgate.grid.spec import Grid
from ltgate.grid.trial import BUSY, DONE, FAILED, Task, folder, note, work
from ltgate.progress import track


def run(grid: Grid) -> dict[str, int]:
    """Run all trials of a grid that have no result, on the workers that its parameters ask for.

    Returns how many are ``done`` now, have ``failed``, and were ``skipped`` because they had a
    result before. An interrupt (Ctrl-C) leaves a grid that the same call goes on with.
    """
    counts, tasks = Counter(), []
    for task in _tasks(grid):
        if results.exists(folder(grid.name), task.job.key):
            counts["skipped"] += 1
        else:
            tasks.append(task)
    if tasks:
        with clusters.client(grid, len(tasks)) as client:
            if link := clusters.dashboard(client, grid.base):
                print(f"{len(tasks)} trials; dask's dashboard: {link}", flush=True)
            busy = []
            for task, outcome in _outcomes(client, tasks, "trials"):
                counts[outcome] += 1
                if outcome == BUSY:
                    busy.append(task)
            for _, outcome in _outcomes(client, busy, "trials of another process", wait=True):
                counts[outcome] += 1
    outcome = {what: counts[what] for what in (DONE, FAILED, "skipped")}
    print(", ".join(f"{number} {what}" for what, number in outcome.items()), flush=True)
    return outcome


def _outcomes(
    client: Client, tasks: list[Task], label: str, wait: bool = False
) -> Iterator[tuple[Task, str]]:
    """What became of each task, in the order in which they end."""
    futures: dict[Future, Task] = {
        client.submit(work, task, wait, pure=False, retries=task.attempts - 1): task
        for task in tasks
    }
    try:
        for future in track(_ended(client, futures), len(futures), label):
            task = futures.pop(future)
            if future.status == "finished":
                yield task, future.result()
            else:
                note(task, future.exception())
                yield task, FAILED
    finally:
        client.cancel(list(futures))


def _ended(client: Client, futures: dict[Future, Task]) -> Iterator[Future]:
    """The futures in the order in which they end, as long as there are workers."""
    if not futures:
        return
    watch = clusters.Watch(client, next(iter(futures.values())).base.cluster)
    waited = as_completed(list(futures), loop=client.loop)
    while not waited.is_empty():
        ended = waited.next_batch(block=False)
        if any(future.cancelled() for future in ended):
            raise watch.gone()
        yield from ended
        if not ended:
            watch.look()
            time.sleep(0.05)


def _tasks(grid: Grid) -> Iterator[Task]:
    told = {
        "base": grid.base,
        "measure": grid.file.measure,
        "attempts": grid.file.retries + 1,
        "since": time.time(),
        "code": provenance.learning_code(),
        "home": str(paths.root()),
        "data": str(paths.data()),
    }
    return (Task(job, **told) for job in grid.jobs())
