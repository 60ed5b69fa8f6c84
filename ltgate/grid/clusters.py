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
from distributed import Client, LocalCluster
from distributed.core import Status
from distributed.deploy import SpecCluster

from ltgate import paths
from ltgate.errors import Failed, UserError
from ltgate.grid.spec import Grid
from ltgate.params import Params

# Ctrl-C reaches every process of a terminal; workers are ended by whoever made them.
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"

JOBS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster"}
AGAIN = "the same command goes on from here"
ANY = "127.0.0.1:0"  # a free port for the dashboard
CONNECT = 20  # seconds to wait for a scheduler
SILENT = 30  # seconds without a worker after which that is told
TRUSTED = "LTGATE_TRUSTED_SCHEDULER"  # environment variable: an address without TLS that is ours
PATIENCE = 1800  # seconds without a worker after which a search ends
IN_A_QUEUE = 7 * 24 * 3600  # the same where workers are jobs that may have to wait for their turn


@contextlib.contextmanager
def client(grid: Grid, trials: int) -> Iterator[Client]:
    """A client of the workers that ``grid`` asks for; they end with the block if it made them.

    No more of them are started than there are ``trials``.
    """
    params, options = grid.base, grid.file.options
    settings = {
        "distributed.scheduler.allowed-failures": grid.file.retries + 1,  # deaths of a worker
        "distributed.worker.daemon": False,  # trials may have loader processes
        "distributed.worker.profile.enabled": False,  # dask would look at the trials all the time
    }
    for name in ("distributed", "distributed.client", "tornado.application"):  # we tell more
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        if "://" in params.cluster:
            yield stack.enter_context(_connect(params.cluster))
            return
        cluster = stack.enter_context(_cluster(params, options, trials))
        yield stack.enter_context(Client(cluster, set_as_default=False))


class Watch:
    """Tells when a search is without workers, with what to do, and ends it when none comes."""

    def __init__(self, client: Client, cluster: str) -> None:
        self._client, self._cluster = client, cluster
        self._looked = self._seen = time.monotonic()
        self._told = False

    def look(self) -> None:
        """Once a second, see whether there is a worker.

        Raises `Failed` when there has been none for ``PATIENCE``, or the scheduler is gone.
        """
        now = time.monotonic()
        if now < self._looked + 1:
            return
        self._looked = now
        try:
            workers = self._client.scheduler_info(n_workers=1)["workers"]
        except (OSError, TimeoutError):
            raise self.gone() from None
        if workers:
            self._seen, self._told = now, False
            return
        jobs = self._cluster in JOBS
        patience, alone = IN_A_QUEUE if jobs else PATIENCE, now - self._seen
        if alone >= patience:
            raise Failed(
                f"cluster = {self._cluster!r}: no worker for {patience / 3600:g} h; {AGAIN}"
            )
        if alone >= SILENT and not self._told:
            self._told = True
            if jobs:
                advice = "its jobs wait for their turn or have ended: see the queue and their logs"
            elif "://" in self._cluster:
                advice = f"start some in this environment: dask worker {self._cluster} --nthreads 1"
            else:
                advice = "its processes do not start, or end at once: see that there is memory"
            print(
                f"cluster = {self._cluster!r}: no worker for {SILENT:g} s; {advice}; without one "
                f"this ends after {patience / 3600:g} h",
                file=sys.stderr,
                flush=True,
            )

    def gone(self) -> Failed:
        """What a search ends with whose scheduler has ended, which cancels all that it had."""
        return Failed(f"cluster = {self._cluster!r}: its scheduler is gone; {AGAIN}")


def size(params: Params) -> int:
    """Worker processes or jobs: as told, or one per core or GPU slot that there is."""
    if params.grid_workers:
        return params.grid_workers
    if params.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.device_count() * params.trials_per_gpu
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def dashboard(client: Client, params: Params) -> str:
    """Address of dask's page on this search; empty where there is none."""
    if params.cluster == "none":
        return ""
    try:
        return client.dashboard_link or ""
    except KeyError:  # a scheduler without one
        return ""


def _cluster(params: Params, options: dict[str, Any], trials: int) -> SpecCluster:
    if params.cluster == "none":
        return LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=ANY,
            **options,
        )
    if params.cluster == "local":
        told = {"dashboard_address": ANY, "silence_logs": logging.CRITICAL, **options}
        return LocalCluster(
            n_workers=min(size(params), trials),
            threads_per_worker=1,
            env={"NUMBA_NUM_THREADS": "1"},  # dask caps the others
            preload=DEAF,
            security=True,  # else any user of this machine could run code in it
            **told,
        )
    made = job_cluster(params, options)
    _submit(made, params.cluster, min(size(params), trials))
    return made


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
