"""Our backends against dense convolutions alone and against other libraries, side by side."""

from dataclasses import replace
from functools import partial

import pandas as pd

from ltgate import backends
from ltgate.errors import UserError
from ltgate.perf import measure, peers
from ltgate.perf.bench import TASKS, Bench, Workload, to_device
from ltgate.processes import on_threads

COLUMNS = ["work", "device", "threads", "ours_s", "peer", "peer_s", "ratio"]

UPDATE = "forward and local update"
Works = dict[tuple[str, str], measure.Work]
Row = tuple[str, str, int, float, str, float]  # in the order of COLUMNS


def table(bench: Bench) -> pd.DataFrame:
    """``table_bench``: batches of 32, forward pass, on all threads and (``bench = full``) on one.

    ``ours_s`` and ``peer_s`` are the shortest times (s) in the same interleaved run, the peer's at
    the best of its settings; ``ratio`` is ours over the peer's, below 1 is faster. A peer that is
    not installed has a row that says so. Other libraries and surrogate gradients take minutes and
    are left out of ``bench = few``.
    """
    rows: list[Row] = []
    for device in ("cpu", "cuda") if bench.device != "cpu" else ("cpu",):
        alone = device == "cpu" and bench.extent.everything
        for threads in sorted({1, bench.threads}) if alone else [bench.threads]:
            with on_threads(threads):
                for task in TASKS:
                    rows += _passes(bench, task, device, threads)
    if bench.extent.everything:
        rows += [_gradients(bench, task) for task in TASKS]
    frame = pd.DataFrame(rows, columns=COLUMNS[:-1])
    return frame.assign(ratio=frame["ours_s"] / frame["peer_s"])


def _passes(bench: Bench, task: str, device: str, threads: int) -> list[Row]:
    """Our backends against every peer; the fastest against the others, its update, one thread."""
    workload = to_device(bench.workloads[task], device)
    names = [name for name in backends.BACKENDS if _runs(name, device)]
    fastest, *others = names if bench.extent.everything else names[:1]
    ours = {name: replace(workload, backend=name) for name in (fastest, *others)}
    passes = {"forward": ours[fastest].forward, UPDATE: ours[fastest].update}
    works: Works = {("forward", name): work.forward for name, work in ours.items()}
    works[UPDATE, fastest] = passes[UPDATE]
    several = passes if device == "cpu" and threads > 1 else {}
    works |= {("one thread", kind): partial(_on, 1, work) for kind, work in several.items()}
    theirs = _peers(bench, workload)
    found = measure.interleaved(works | theirs, bench.extent.repeats, device)
    best: dict[str, float] = {}
    for peer, setting in theirs:
        best[peer] = min(best.get(peer, float("inf")), found[peer, setting])
    if bench.extent.everything:
        missing = [name for name in peers.SETTINGS if not peers.installed(name)]
        best |= {f"{name}: not installed": float("nan") for name in missing}

    def row(kind: str, name: str, peer: str, value: float) -> Row:
        return f"{task} {kind} ({name})", device, threads, found[kind, name], peer, value

    return [
        *(row("forward", name, peer, value) for name in ours for peer, value in best.items()),
        *(row("forward", fastest, f"ours ({name})", found["forward", name]) for name in others),
        row(UPDATE, fastest, "its forward alone", found["forward", fastest]),
        *(row(kind, fastest, "one thread", found["one thread", kind]) for kind in several),
    ]


def _peers(bench: Bench, workload: Workload) -> Works:
    """A work for every peer that is asked for and there, and each of its settings."""
    extent = bench.extent
    works: Works = {}
    for name in filter(peers.installed, peers.SETTINGS):
        if name == peers.SCAN and workload.device != "cpu":  # compiled for the CPU
            continue
        if name not in (peers.DENSE, peers.SCAN) and not extent.everything:
            continue
        made = peers.convolutions if name == peers.DENSE else partial(peers.forward, name)
        for setting in peers.SETTINGS[name][: None if extent.everything else 1]:
            works[peers.installed(name), str(setting)] = made(workload, *setting)
    return works


def _runs(backend: str, device: str) -> bool:
    if (backend, device) == ("gpu", "cpu"):
        return False  # only in Triton's interpreter, for tests
    try:
        backends.choose(backend, device)
    except UserError:
        return False
    return True


def _on(threads: int, work: measure.Work) -> None:
    with on_threads(threads):
        work()


def _gradients(bench: Bench, task: str) -> Row:
    """A step of surrogate gradients through time, against the plain loop under autograd."""
    workload = to_device(bench.workloads[task], "cpu")
    works = {name: partial(workload.gradients, name) for name in ("compiled", "portable")}
    with on_threads(bench.threads):
        ours, plain = measure.interleaved(works, bench.extent.repeats).values()
    work = f"{task} surrogate gradients (compiled)"
    return work, "cpu", bench.threads, ours, "ours (portable)", plain
