"""Running a grid: on every kind of workers the same rows, each trial once, failures on record."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import distributed
import pytest
import torch
from small_grid import small_grid

from ltgate import files, paths, processes, results, train
from ltgate import grid as package
from ltgate.__main__ import main
from ltgate.errors import Failed, UserError
from ltgate.files import lock
from ltgate.grid import clusters
from ltgate.grid.execution import Task, TrialFailed, _device, folder, task, work
from ltgate.params import Params

ROOT = Path(__file__).resolve().parent.parent

# dask leaves its event loop to the garbage collector
pytestmark = [
    pytest.mark.usefixtures("cache", "home"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


def rows(name="small") -> dict[str, bytes]:
    """Every result file of a grid."""
    return {f.name: f.read_bytes() for f in (folder(name) / "results").glob("*.csv")}


def records(name="small") -> dict[str, dict]:
    """Every trial's record."""
    found = (folder(name) / "trials").glob("*.json")
    return {file.stem: json.loads(file.read_text()) for file in found}


@pytest.fixture(scope="module")
def one_by_one(cache, tmp_path_factory) -> dict[str, bytes]:
    """What the continual loop itself gives for every trial of three seeds, without a grid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTGATE_HOME", str(tmp_path_factory.mktemp("serial")))
        grid = small_grid(tmp_path_factory.mktemp("grid"), seeds=[0, 1, 2])
        for configuration in grid.configurations():
            for trial in train.trials(grid.params(configuration)):
                made = train.train(trial) + train.evaluate(trial, grid.file.measure)
                made = [row for row in made if row["metric"] != "curve_accuracy"]
                results.write(folder(grid.name), trial.key, made)
        return rows()


def broken(monkeypatch, fails: dict[float, list[Exception]]) -> None:
    """Trials of a ridge raise these errors, one after the other, before they work."""
    whole = train.measure

    def sometimes(trial, split):
        if waiting := fails.get(trial.params.ridge):
            raise waiting.pop(0)
        return whole(trial, split)

    monkeypatch.setattr(train, "measure", sometimes)


def test_the_rows_are_those_of_the_trials_one_by_one(home, one_by_one):
    grid = small_grid(home, seeds=[0, 1])
    assert package.run(grid) == {"done": 8, "failed": 0, "skipped": 0}
    made = rows()
    assert len(made) == 8 and made.items() <= one_by_one.items()
    assert {len(record["attempts"]) for record in records().values()} == {1}
    assert package.run(grid) == {"done": 0, "failed": 0, "skipped": 8}
    assert {len(record["attempts"]) for record in records().values()} == {1}
    more = small_grid(home, seeds=[0, 1, 2])
    assert package.run(more) == {"done": 4, "failed": 0, "skipped": 8}
    assert rows() == one_by_one


@pytest.mark.parametrize("measure", ["validation", "test"])
def test_only_a_final_evaluation_opens_test_images(home, monkeypatch, measure):
    opened, whole = set(), train.open_task
    monkeypatch.setattr(train, "open_task", lambda *args: opened.add(args[2]) or whole(*args))
    package.run(small_grid(home, axes={"ridge": [0.1]}, measure=measure))
    assert opened == {"train", "validation", measure}
    assert set(results.load(folder("small"))["split"]) == {"train", measure}


def test_no_checkpoint_is_left_but_those_that_a_notebook_needs(home):
    grid = small_grid(home, axes={"ridge": [0.1]})
    package.run(grid)
    assert not list((paths.run("small") / "checkpoints").glob("*"))
    (trial,) = train.trials(small_grid(home, axes={"ridge": [1.0]}).base.with_(ridge=1.0))
    train.run_trial(trial)
    package.run(small_grid(home, axes={"ridge": [1.0]}))
    assert sorted(f.name for f in trial.folder.glob("*.safetensors")) == [
        "task0.safetensors",
        "task1.safetensors",
    ]


def test_a_failed_trial_is_tried_again_and_stops_no_other(home, monkeypatch):
    fails = {0.1: [MemoryError("out of memory"), ValueError("first\nsecond")] * 2, 1.0: [OSError()]}
    broken(monkeypatch, fails)
    axes = {"ridge": [0.1, 1.0, 10.0]}
    grid = small_grid(home, axes=axes, retries=2)
    fails[0.1].pop()  # three errors: all attempts fail
    assert package.run(grid) == {"done": 2, "failed": 1, "skipped": 0}
    errors = {
        record["trial"]: [attempt["error"] for attempt in record["attempts"]]
        for record in records().values()
    }
    memory = "MemoryError: out of memory"
    first = [memory, "ValueError: first", memory]
    assert errors == {
        "ridge = 0.1": first, "ridge = 1.0": ["OSError: ", ""], "ridge = 10.0": [""],
    }  # fmt: skip
    table = package.table(grid)
    assert list(table["failed"]) == [1, 0, 0] and list(table["error"]) == [memory, "", ""]
    assert list(table["seeds"]) == [0, 1, 1] and table["best"][0] == ""
    assert package.run(grid) == {"done": 1, "failed": 0, "skipped": 2}  # a new start tries anew
    assert list(package.table(grid)["failed"]) == [0, 0, 0]


def test_a_wrong_value_is_recorded_and_not_tried_again(home):
    grid = small_grid(home, axes={"tau_fast_ms": [5.0, 200.0]}, retries=3)
    assert package.run(grid) == {"done": 1, "failed": 1, "skipped": 0}
    table = package.table(grid)
    assert "must be below tau_slow_ms" in table["error"][1] and table["best"][0] == "yes"
    assert {len(record["attempts"]) for record in records().values()} == {1}


def test_a_trial_of_another_process_is_waited_for_and_not_done_again(home):
    """Its lock is held while everything else runs; then its rows are there."""
    grid = small_grid(home)
    first, *_ = [job.key for job in grid.jobs()]
    package.run(small_grid(home, "aside", axes={"ridge": [0.1], "tau_slow_ms": [100.0]}))
    (ready,) = (folder("aside") / "results").glob("*.csv")
    outcome = {}

    def second() -> None:
        outcome.update(package.run(grid))

    thread = threading.Thread(target=second)
    with lock(folder("small") / "trials" / f"{first}.lock"):
        thread.start()
        deadline = time.monotonic() + 30
        while len(rows()) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(rows()) == 3 and thread.is_alive()
        for suffix in (".json", ".csv"):
            made = (folder("small") / "results" / first).with_suffix(suffix)
            made.write_bytes(ready.with_suffix(suffix).read_bytes())
    thread.join(30)
    assert outcome == {"done": 4, "failed": 0, "skipped": 0}
    assert first not in records() and len(records()) == 3


def test_a_killed_process_counts_as_a_failed_attempt(home, monkeypatch):
    """What stands on record while a trial works is what became of it if its process dies."""
    grid = small_grid(home, axes={"ridge": [0.1]})
    (job,) = grid.jobs()
    path, seen = folder("small") / "trials" / f"{job.key}.json", []

    def die(*_):
        seen.append(files.read_json(path)["attempts"])
        raise OSError("disk full")

    monkeypatch.setattr(train, "measure", die)
    for _ in range(2):
        with pytest.raises(TrialFailed, match="disk full"):
            work(task(grid, job))
    assert [[made["error"] for made in attempts] for attempts in seen] == [
        ["its process was killed"],
        ["OSError: disk full", "its process was killed"],
    ]
    (line,) = package.points(grid).to_dict("records")
    assert line["attempts"] == 2 and line["error"] == "OSError: disk full"


def test_threads_are_capped_and_given_back(home, monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(train, "measure", lambda *_: seen.append(torch.get_num_threads()) or 1 / 0)
    package.run(small_grid(home, axes={"ridge": [0.1]}, params={"threads": 0}, retries=0))
    assert seen == [1] and torch.get_num_threads() == before


# workers


def test_two_local_workers_give_the_same_rows(home, one_by_one):
    grid = small_grid(home, params={"cluster": "local", "grid_workers": 2})
    assert package.run(grid) == {"done": 4, "failed": 0, "skipped": 0}
    assert len(rows()) == 4 and rows().items() <= one_by_one.items()
    processes = {attempt["process"] for r in records().values() for attempt in r["attempts"]}
    assert os.getpid() not in processes and 1 <= len(processes) <= 2


def test_no_scheduler_at_an_address(home, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT", 0.3)
    monkeypatch.setenv(clusters.TRUSTED, "tcp://127.0.0.1:1")
    grid = small_grid(home, params={"cluster": "tcp://127.0.0.1:1"})
    with pytest.raises(UserError, match=r"tcp://127\.0\.0\.1:1.*no scheduler answers"):
        package.run(grid)


@pytest.fixture
def empty(monkeypatch) -> distributed.LocalCluster:
    """A trusted scheduler without workers, which a search waits for 0.5 s in silence."""
    monkeypatch.setattr(clusters, "SILENT", 0.5)
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=0, threads_per_worker=1, **options) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        monkeypatch.setenv(clusters.TRUSTED, cluster.scheduler_address)
        yield cluster


def test_a_scheduler_without_workers_is_told_and_late_ones_do_the_work(home, empty, capsys):
    """They go on when the grid is done: they belong to somebody else."""
    threading.Timer(4, empty.scale, [1]).start()
    address = empty.scheduler_address
    grid = small_grid(home, params={"cluster": address})
    assert package.run(grid) == {"done": 4, "failed": 0, "skipped": 0}
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "no worker" in line]
    assert told.startswith(f"cluster = {address!r}: no worker for 0.5 s; start some ")
    assert f"dask worker {address} " in told
    assert package.run(small_grid(home, "again", params={"cluster": address}))["done"] == 4
    assert rows("small") == rows("again")


def test_a_scheduler_that_stays_without_workers_is_given_up(home, empty, monkeypatch):
    monkeypatch.setattr(clusters, "PATIENCE", 1.5)
    with pytest.raises(Failed, match=r"no worker for .* h; the same command goes on"):
        package.run(small_grid(home, params={"cluster": empty.scheduler_address}))
    assert not rows()


def test_a_scheduler_that_ends_is_told_and_no_trial_counts_as_failed(home, empty):
    threading.Timer(2, empty.close).start()
    with pytest.raises(Failed, match="its scheduler is gone; the same command goes on"):
        package.run(small_grid(home, params={"cluster": empty.scheduler_address}))
    assert not records()


def test_a_cluster_that_takes_no_job_is_told(home, monkeypatch):
    (home / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: Invalid account' >&2; exit 1\n")
    (home / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
    why = "cluster = 'slurm': a job was refused: .*sbatch: error: Invalid account"
    with pytest.raises(UserError, match=why):
        package.run(small_grid(home, params={"cluster": "slurm"}))


@pytest.mark.parametrize(
    ("kind", "told"), [("slurm", "#SBATCH -p long"), ("pbs", "#PBS -q long"), ("sge", "#$ -q long")]
)
def test_jobs_of_a_cluster(kind, told):
    """The script that would be submitted; two trials share a job's GPU."""
    import asyncio

    async def script() -> str:
        params = Params(cluster=kind, trials_per_gpu=2)
        options = {"queue": "long", "walltime": "01:00:00", "memory": "6GB"}
        return clusters.job_cluster(params, {**options, "asynchronous": True}).job_script()

    text = asyncio.run(script())
    assert told in text and "--nthreads 1" in text and "--nworkers 2" in text


def test_a_wrong_option_of_a_cluster(monkeypatch):
    """And interrupts are as they were: imported, dask-jobqueue makes Ctrl-C a silent exit."""
    for name in [name for name in sys.modules if name.startswith("dask_jobqueue")]:
        monkeypatch.delitem(sys.modules, name)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(UserError, match=r"cluster = 'slurm', options \{'qeue'"):
        clusters.job_cluster(Params(cluster="slurm"), {"qeue": "long"})
    assert "dask_jobqueue.runner" in sys.modules
    assert signal.getsignal(signal.SIGINT) is before


def test_number_of_workers(monkeypatch):
    assert clusters.size(Params(grid_workers=3)) == 3
    assert clusters.size(Params(device="cpu")) == len(os.sched_getaffinity(0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert clusters.size(Params(trials_per_gpu=3)) == 6
    assert clusters.size(Params(device="cpu")) == len(os.sched_getaffinity(0))


def test_workers_share_the_gpus_in_turn(monkeypatch):
    assert _device("cuda") == "cuda" and _device("auto") == "auto"  # no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, device in ((0, "cuda:0"), (1, "cuda:1"), (2, "cuda:0"), ("job-5", "cuda:1")):
        monkeypatch.setattr(distributed, "get_worker", lambda name=name: SimpleNamespace(name=name))
        assert _device("auto") == device
    assert _device("cpu") == "cpu" and _device("cuda:3") == "cuda:3"


def _work_all(tasks: list[Task], home: str, data: str) -> list[str]:
    """In a process of its own: what became of each trial."""
    os.environ |= {"LTGATE_HOME": home, "LTGATE_DATA_CACHE": data}
    return [work(task, wait=True) for task in tasks]


def test_two_processes_at_once_do_no_trial_twice(home, one_by_one):
    """Both go through all trials, one of them backwards; what one has begun the other awaits."""
    grid = small_grid(home, seeds=[0, 1, 2])
    tasks = [task(grid, job) for job in grid.jobs()]
    processes.start_server()
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool:
        places = (str(home), str(paths.data()))
        both = [pool.submit(_work_all, order, *places) for order in (tasks, tasks[::-1])]
        assert [future.result() for future in both] == [["done"] * 12] * 2
    attempts = [record["attempts"] for record in records().values()]
    assert [len(made) for made in attempts] == [1] * 12  # no trial began twice
    assert len({made[0]["process"] for made in attempts}) == 2  # both had a part in it
    assert rows() == one_by_one


def test_ctrl_c_leaves_a_grid_that_goes_on(home):
    """The whole command is interrupted as a terminal does it; the same command ends the work."""
    small_grid(home, params={"cluster": "local", "grid_workers": 1, "epochs": 4}, seeds=[0, 1])
    command = ["grid", str(home / "small.yaml")]
    process = subprocess.Popen(
        [sys.executable, "-m", "ltgate", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300  # a busy machine
    while not rows() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert errors.strip() == "error: interrupted; the same command goes on from here"
    with pytest.raises(ProcessLookupError):  # no worker is left after a moment
        for _ in range(300):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    first = rows()
    assert 0 < len(first) < 8
    assert main([*command, "--set", "cluster=none"]) == 0  # here: without starting anew
    assert first.items() <= rows().items() and len(rows()) == 8
    finished = [made for r in records().values() for made in r["attempts"] if not made["error"]]
    assert len(finished) == 8  # those of the first start were not done again
    assert (paths.figures("small") / "best.yaml").exists()
