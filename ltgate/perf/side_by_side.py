"""Our backends against dense convolutions alone and against other libraries, side by side."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pandas as pd

from ltgate import backends
from ltgate.errors import UserError
from ltgate.perf import peers, roofline, timing
from ltgate.perf.bench import BATCH, TASKS, Bench, Extent, Workload, to_device

COLUMNS = ["work", "device", "threads", "ours_s", "peer", "peer_s", "ratio"]
DENSE = "dense float32 convolutions alone"
ROOFLINE = "floor: its bytes and operations at the ceilings measured"

# Images and steps at once, and channels last: the fastest differs between machines.
_LAYOUTS = [(8, 20, True), (32, 5, True), (4, 20, True), (8, 20, False), (32, 5, False)]

Candidates = dict[tuple[str, str], Callable[[], object]]


def table(bench: Bench) -> pd.DataFrame:
    """``table_bench``: batches of 32, forward pass, on one thread and on all.

    ``ours_s`` and ``peer_s`` are the shortest times (s) in the same interleaved run, the peer's at
    the best of its settings; ``ratio`` is ours over the peer's, below 1 is faster. A peer that is
    not installed has a row that says so. Other libraries and surrogate gradients take minutes and
    are left out of ``bench = few``.
    """
    rows: list[dict] = []
    for device in ("cpu", "cuda") if bench.device != "cpu" else ("cpu",):
        for threads in sorted({1, bench.threads}) if device == "cpu" else [bench.threads]:
            with timing.threads(threads):
                for task in TASKS:
                    rows += _passes(bench, task, device, threads)
    for task in TASKS if bench.threads > 1 else ():
        rows += _threads(bench, task)
    for task in TASKS if bench.extent.everything else ():
        rows += _gradients(bench, task)
    frame = pd.DataFrame(rows, columns=COLUMNS[:-1])
    return frame.assign(ratio=frame["ours_s"] / frame["peer_s"])


def _passes(bench: Bench, task: str, device: str, threads: int) -> list[dict]:
    """Our backends against every peer, the fastest of ours against the others and its floor."""
    workload = to_device(bench.workloads[task], device)
    names = [name for name in backends.BACKENDS if _runs(name, device)]
    fastest = names[0]
    names = names if bench.extent.settings else [fastest]
    ours = {name: replace(workload, backend=name) for name in names}
    candidates: Candidates = {(name, "forward"): work.forward for name, work in ours.items()}
    candidates[fastest, "update"] = ours[fastest].update
    candidates |= _peers(workload, bench.extent)
    found = timing.interleaved(candidates, bench.extent.repeats, device)
    best: dict[str, float] = {}
    for (name, _), value in found.items():
        best[name] = min(best.get(name, value), value)
    if bench.extent.everything:
        missing = [name for name in peers.SETTINGS if not peers.installed(name)]
        best |= {f"{name}: not installed": float("nan") for name in missing}

    def row(name: str, peer: str, theirs: float, work: str = "forward") -> dict:
        return {
            "work": f"{task} {work} ({name})", "device": device, "threads": threads,
            "ours_s": found[name, work.split()[-1]], "peer": peer, "peer_s": theirs,
        }  # fmt: skip

    rows = [
        row(name, peer, value) for name in names for peer, value in best.items() if peer not in ours
    ]
    rows += [row(fastest, f"ours ({name})", found[name, "forward"]) for name in names[1:]]
    if fastest == "gpu":
        kernels = roofline.count_bytes_and_operations(workload.network, BATCH, len(workload.steps))
        least = roofline.seconds(kernels, roofline.ceilings(device))
        rows.append(row(fastest, ROOFLINE, least))
    alone = found[fastest, "forward"]
    return [*rows, row(fastest, "its forward alone", alone, "forward and local update")]


def _peers(workload: Workload, extent: Extent) -> Candidates:
    tried = slice(None) if extent.settings else slice(1)
    candidates: Candidates = {
        (DENSE, str(layout)): peers.Convolutions(workload, *layout).run
        for layout in _LAYOUTS[tried]
    }
    for name in filter(peers.installed, peers.SETTINGS):
        if name == peers.DENSE_SCAN and workload.device != "cpu":  # compiled for the CPU
            continue
        if name != peers.DENSE_SCAN and not extent.everything:
            continue
        for setting in peers.SETTINGS[name][tried]:
            run = peers.forward(name, workload, *setting)
            candidates[peers.installed(name), str(setting)] = run
    return candidates


def _runs(backend: str, device: str) -> bool:
    if (backend, device) == ("gpu", "cpu"):
        return False  # only in Triton's interpreter, for tests
    try:
        backends.choose(backend, device)
    except UserError:
        return False
    return True


def _threads(bench: Bench, task: str) -> list[dict]:
    """All threads against one, for our fastest backend on the CPU."""
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
    found = timing.interleaved(candidates, bench.extent.repeats)
    return [
        {
            "work": work, "device": "cpu", "threads": bench.threads,
            "ours_s": found[work, bench.threads], "peer": "one thread", "peer_s": found[work, 1],
        }
        for work in works
    ]  # fmt: skip


def _on(threads: int, call: Callable[[], object]) -> None:
    with timing.threads(threads):
        call()


def _gradients(bench: Bench, task: str) -> list[dict]:
    """A step of surrogate gradients through time, against the plain loop under autograd."""
    engines = "compiled", "portable"
    workload = to_device(bench.workloads[task], "cpu")
    if not bench.extent.settings:
        workload = workload.cut(images=4)
    with timing.threads(bench.threads):
        candidates = {name: partial(workload.gradients, name) for name in engines}
        found = timing.interleaved(candidates, bench.extent.repeats)
    first, *others = engines
    return [
        {
            "work": f"{task} surrogate gradients ({first})", "device": "cpu",
            "threads": bench.threads, "ours_s": found[first], "peer": f"ours ({other})",
            "peer_s": found[other],
        }
        for other in others
    ]  # fmt: skip
