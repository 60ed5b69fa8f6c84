"""Workers for a grid: dask's own clusters, chosen by parameters.

``none``: a thread of this process. ``local``: processes on this machine, one thread each.
``slurm``, ``pbs``, ``sge``: jobs of the cluster, by dask-jobqueue; what the cluster wants to know
(queue, cores, memory, walltime) comes from the grid file's ``options`` or, all of it, from dask's
own configuration (``~/.config/dask/jobqueue.yaml``). Schedulers that are started here take TLS
alone, with certificates made for the one search; the dashboard is on loopback. An address: whatever
workers that scheduler has; results come as pickles, so that one without TLS has to be trusted in so
many words.
"""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import dask
import torch
from distributed import Client, Future, LocalCluster, as_completed
from distributed.core import Status
from distributed.deploy import SpecCluster

from ltgate import paths, provenance
from ltgate.errors import Failed, UserError
from ltgate.grid.spec import Grid
from ltgate.params import Params

# Ctrl-C reaches every process of a terminal; workers are ended by whoever made them.
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"

JOBS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster"}
ANY = "127.0.0.1:0"  # a free port for the dashboard
CONNECT = 20  # seconds to wait for a scheduler
SILENT = 30  # seconds without a worker after which that is told
PATIENCE = 1800  # and after which a search ends
IN_A_QUEUE = 7 * 24 * 3600  # the same where workers are jobs that may have to wait for their turn
TRUSTED = "LTGATE_TRUSTED_SCHEDULER"  # environment variable: an address without TLS that is ours


@contextlib.contextmanager
def client(grid: Grid, trials: int) -> Iterator[Client]:
    """A client of the workers that ``grid`` asks for; they end with the block if it made them.

    No more of them are started than there are ``trials``.
    """
    settings = {
        "distributed.scheduler.allowed-failures": grid.file.retries + 1,  # deaths of a worker
        "distributed.worker.daemon": False,  # trials may have loader processes
        "distributed.worker.profile.enabled": False,  # dask would look at the trials all the time
    }
    for name in ("distributed", "distributed.client", "tornado.application"):  # we tell more
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        if "://" in grid.base.cluster:
            yield stack.enter_context(_connect(grid.base.cluster))
        else:
            cluster = stack.enter_context(_cluster(grid.base, grid.file.options, trials))
            yield stack.enter_context(Client(cluster, set_as_default=False))


def ended(client: Client, futures: list[Future], cluster: str) -> Iterator[Future]:
    """The futures in the order in which they end; says so when there is no worker for them.

    Raises `Failed` when there has been none for ``PATIENCE``, or when the scheduler is gone, which
    cancels all that it had.
    """
    patience, told = IN_A_QUEUE if cluster in JOBS else PATIENCE, False
    gone = Failed(f"cluster = {cluster!r}: its scheduler is gone; the same command goes on")
    waited = as_completed(futures, loop=client.loop)
    seen = asked = time.monotonic()
    while not waited.is_empty():
        batch = waited.next_batch(block=False)
        if any(future.cancelled() for future in batch):
            raise gone
        yield from batch
        time.sleep(0 if batch else 0.05)
        if time.monotonic() < asked + 1:
            continue
        asked = time.monotonic()
        try:
            workers = client.scheduler_info(n_workers=1)["workers"]
        except (OSError, TimeoutError):
            raise gone from None
        alone = f"cluster = {cluster!r}: no worker for"
        if workers:
            seen, told = asked, False
        elif asked > seen + patience:
            raise Failed(f"{alone} {patience / 3600:g} h; the same command goes on")
        elif asked > seen + SILENT and not told:
            told = True
            print(f"{alone} {SILENT:g} s; {_advice(cluster)}", file=sys.stderr, flush=True)


def _advice(cluster: str) -> str:
    if cluster in JOBS:
        return "its jobs wait for their turn or have ended: see the queue and their logs"
    if "://" in cluster:
        return f"start some in this environment: dask worker {cluster} --nthreads 1"
    return "its processes do not start, or end at once: see that there is memory"


def size(params: Params) -> int:
    """Worker processes or jobs: as told, or one per core or GPU slot that there is."""
    if params.grid_workers:
        return params.grid_workers
    if params.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.device_count() * params.trials_per_gpu
    return provenance.cores()


def _cluster(params: Params, options: dict[str, Any], trials: int) -> SpecCluster:
    if params.cluster in JOBS:
        made = job_cluster(params, options)
        _submit(made, params.cluster, min(size(params), trials))
        return made
    told: dict[str, Any] = {"n_workers": 1, "processes": False}
    if params.cluster == "local":
        told = {
            "n_workers": min(size(params), trials),
            "env": {"NUMBA_NUM_THREADS": "1"},  # dask caps the others
            "preload": DEAF,
            "security": True,  # else any user of this machine could run code in it
            "silence_logs": logging.CRITICAL,
        }
    return LocalCluster(threads_per_worker=1, dashboard_address=ANY, **told, **options)


def job_cluster(params: Params, options: dict[str, Any]) -> SpecCluster:
    """A cluster of jobs, none of which has been submitted; ``job_script()`` shows one.

    With a GPU a job has one worker process for each trial that shares it.
    """
    interrupt = signal.getsignal(signal.SIGINT)
    import dask_jobqueue  # here: it reads the cluster's configuration

    signal.signal(signal.SIGINT, interrupt or signal.SIG_DFL)  # its import has Ctrl-C end us mutely
    slots = params.trials_per_gpu if params.device != "cpu" else 1
    told = {"cores": slots, "processes": slots, "memory": "4GB", "security": True, **options}
    told["scheduler_options"] = {"dashboard_address": ANY}
    told["shared_temp_directory"] = str(paths.run(params.name))  # for the jobs' certificates
    paths.run(params.name).mkdir(parents=True, exist_ok=True)
    try:
        return getattr(dask_jobqueue, JOBS[params.cluster])(**told)
    except (TypeError, ValueError) as error:
        raise UserError(f"cluster = {params.cluster!r}, options {options}: {error}") from None


def _submit(made: SpecCluster, kind: str, jobs: int) -> None:
    """Submit jobs; raises `UserError` when the cluster takes none of them, warns of those refused.

    dask starts jobs behind the scenes, where an error is lost: here the same step is waited for.
    """

    async def submit() -> None:
        made.scale(jobs=jobs)
        await made._correct_state()

    try:
        made.sync(submit)
    except (RuntimeError, ValueError, OSError) as error:
        refused = [job for job in made.workers.values() if job.job_id is None]
        for job in refused:
            job.status = Status.failed  # or dask fails to close the cluster
        text = f"cluster = {kind!r}: a job was refused: {' '.join(str(error).split())}"
        if len(refused) == len(made.workers):
            made.close()
            raise UserError(text) from None
        print(text, file=sys.stderr, flush=True)


def _connect(address: str) -> Client:
    if address.startswith("tcp://") and os.environ.get(TRUSTED) != address:
        raise UserError(
            f"cluster = {address!r}: whoever answers there can run code here; take one of tls://, "
            f"or say that it is yours: {TRUSTED}={address}"
        )
    try:
        return Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cluster = {address!r}: no scheduler answers there ({error})") from None
