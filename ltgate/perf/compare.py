"""Our backends against dense convolutions alone and against other libraries, side by side."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pandas as pd

from ltgate import backends, surrogate
from ltgate.errors import UserError
from ltgate.perf import floor, peers, timing
from ltgate.perf.bench import BATCH, TASKS, Bench, Workload, to_device
from ltgate.perf.dense import Convolutions

COLUMNS = ["work", "device", "threads", "ours_s", "peer", "peer_s", "ratio"]
DENSE = "dense float32 convolutions alone"
FLOOR = "floor: its bytes and operations at the ceilings measured"

# Images and steps at once, and channels last: the fastest differs between machines.
_LAYOUTS = [(8, 20, True), (32, 5, True), (4, 20, True), (8, 20, False), (32, 5, False)]

Candidates = dict[tuple[str, str], Callable[[], object]]


def table(bench: Bench) -> pd.DataFrame:
    """``table_bench``: batches of 32, forward pass, on one thread and on all.

    ``ours_s`` and ``peer_s`` are the shortest times (s) in the same interleaved run, the peer's at
    the best of its settings; ``ratio`` is ours over the peer's, below 1 is faster. A peer that is
    not installed has a row that says so.
    """
    rows: list[dict] = []
    for device in ("cpu", "cuda") if bench.device != "cpu" else ("cpu",):
        for threads in sorted({1, bench.threads}) if device == "cpu" else [bench.threads]:
            with timing.threads(threads):
                for task in TASKS:
                    rows += _task(bench, task, device, threads)
    rows += _threads(bench) + _gradients(bench)
    return pd.DataFrame(rows, columns=COLUMNS)


def _task(bench: Bench, task: str, device: str, threads: int) -> list[dict]:
    workload = bench.workloads[task]
    if workload.device != device:
        workload = to_device(workload, device)
    names = [name for name in backends.BACKENDS if _runs(name, device)]
    fastest = names[0]
    ours = {
        name: replace(workload, backend=name)
        for name in (names if bench.sizes.settings else [fastest])
    }
    candidates: Candidates = {(name, "forward"): work.forward for name, work in ours.items()}
    candidates[fastest, "update"] = ours[fastest].update
    candidates |= _rivals(workload, bench.sizes.settings)
    found = timing.interleaved(candidates, bench.sizes.repeats, device)
    best: dict[str, float] = {}
    for (name, _), value in found.items():
        if name not in ours:
            best[name] = min(best.get(name, value), value)
    here = {"device": device, "threads": threads}
    rows = []
    for name in ours:
        work = f"{task} forward ({name})"
        taken = found[name, "forward"]
        rows += [_row(work, here, taken, peer, value) for peer, value in best.items()]
        rows += [_row(work, here, taken, f"{peer}: not installed") for peer in _missing()]
    for name in list(ours)[1:]:
        other = found[name, "forward"]
        work = f"{task} forward ({fastest})"
        rows.append(_row(work, here, found[fastest, "forward"], f"ours ({name})", other))
    if fastest == "gpu":
        counted = floor.count_bytes_and_operations(workload.network, BATCH, len(workload.steps))
        least = floor.seconds(counted, floor.ceilings(device))
        work = f"{task} forward ({fastest})"
        rows.append(_row(work, here, found[fastest, "forward"], FLOOR, least))
    work, alone = f"{task} forward and local update ({fastest})", found[fastest, "forward"]
    rows.append(_row(work, here, found[fastest, "update"], "its forward alone", alone))
    return rows


def _rivals(workload: Workload, settings: bool) -> Candidates:
    layouts = _LAYOUTS if settings else _LAYOUTS[:1]
    candidates: Candidates = {
        (DENSE, str(layout)): Convolutions(workload, *layout).run for layout in layouts
    }
    for name, tried in peers.SETTINGS.items():
        if label := peers.installed(name):
            for setting in tried if settings else tried[:1]:
                candidates[label, str(setting)] = peers.forward(name, workload, *setting)
    return candidates


def _missing() -> list[str]:
    return [name for name in peers.SETTINGS if not peers.installed(name)]


def _runs(backend: str, device: str) -> bool:
    if (backend, device) == ("gpu", "cpu"):
        return False  # only in Triton's interpreter, for tests
    try:
        backends.choose(backend, device)
    except UserError:
        return False
    return True


def _row(work: str, here: dict, ours: float, peer: str, theirs: float = float("nan")) -> dict:
    return {
        "work": work, **here, "ours_s": ours, "peer": peer, "peer_s": theirs,
        "ratio": ours / theirs,
    }  # fmt: skip


def _threads(bench: Bench) -> list[dict]:
    """All threads against one, for our fastest backend on the CPU."""
    if bench.threads == 1:
        return []
    rows = []
    for task in TASKS:
        workload = to_device(bench.workloads[task], "cpu")
        name = backends.choose(workload.backend, "cpu").NAME
        works = {
            f"{task} forward ({name})": workload.forward,
            f"{task} forward and local update ({name})": workload.update,
        }
        candidates = {
            (work, threads): partial(_on, threads, call)
            for work, call in works.items()
            for threads in (1, bench.threads)
        }
        found = timing.interleaved(candidates, bench.sizes.repeats)
        here = {"device": "cpu", "threads": bench.threads}
        for work in works:
            rows.append(_row(work, here, found[work, bench.threads], "one thread", found[work, 1]))
    return rows


def _gradients(bench: Bench) -> list[dict]:
    """A step of surrogate gradients through time, against the plain loop under autograd."""
    rows = []
    engines = [engine.NAME for engine in surrogate.gradients.ENGINES if engine.available("cpu")]
    for task in TASKS:
        workload = to_device(bench.workloads[task], "cpu")
        if not bench.sizes.settings:
            workload = workload.cut(images=4)
        candidates = {name: partial(workload.gradients, name) for name in engines}
        with timing.threads(bench.threads):
            found = timing.interleaved(candidates, bench.sizes.repeats)
        here = {"device": "cpu", "threads": bench.threads}
        work = f"{task} surrogate gradients ({engines[0]})"
        rows += [_row(work, here, found[engines[0]], f"ours ({n})", found[n]) for n in engines[1:]]
    return rows


def _on(threads: int, call: Callable[[], object]) -> None:
    with timing.threads(threads):
        call()
