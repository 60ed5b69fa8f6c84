"""Rows on scaling: fitted exponents, and what one more layer costs."""

import numpy as np

from ltgate.perf import memory, sweeps, timing
from ltgate.perf.bench import BATCH, Bench, Workload
from ltgate.perf.guide import Measured, holds, measures

LINEAR = 0.2  # largest distance of the exponent from 1


@measures
def scaling(bench: Bench) -> dict[str, Measured]:
    """Exponents of the sweeps; memory per loader process."""
    frame = sweeps.table(bench)
    where = "GPU memory" if bench.device != "cpu" else "RAM of a CPU process (no GPU)"
    claims = {
        "scaling.memory.batch": ("batch size", "memory", f"{where} above start, with local update"),
        "scaling.time.epochs": ("epochs", "time", "slow task, every layer learning"),
        "scaling.time.dataset": ("training images", "time", "slow task, every layer learning"),
        "scaling.time.batch": (
            "batch size",
            "time",
            "time of one batch; an epoch has fewer of them in proportion, so its time is flat",
        ),
    }
    rows = {}
    for row, (sweep, quantity, told) in claims.items():
        k = sweeps.exponent_of(frame, sweep, quantity)
        note = f"{told}; fitted exponent, 1 = linear"
        rows[row] = Measured(k, note, holds(abs(k - 1) <= LINEAR))
    curve = frame[(frame["sweep"] == "loader processes") & (frame["quantity"] == "memory")]
    each = float((curve["value"] / curve["x"]).max())
    note = "memory of its own; the images are mapped and shared"
    rows["scaling.memory.workers"] = Measured(each, note)
    return rows


@measures
def layers(bench: Bench) -> dict[str, Measured]:
    """Cost of one more convolution: slope over networks of equal layers, batch of 32."""
    works = sweeps.deep(bench, BATCH)
    forward = {layers: work.forward for layers, work in works.items()}
    update = {layers: work.update for layers, work in works.items()}
    with timing.threads(bench.threads):
        passes = timing.interleaved(forward, bench.sizes.repeats, bench.device)
        both = timing.interleaved(update, bench.sizes.repeats, bench.device)
    learning = {x: both[x] - passes[x] for x in works}
    deepest, shallowest = works[max(works)], works[min(works)]
    if bench.device == "cpu":
        both_depths = [(shallowest,), (deepest,)]
        found = memory.peaks(Workload.update, (shallowest.cut(1, 10),), both_depths, bench.threads)
        peaks = [peak.above_start for peak in found]
    else:
        peaks = [memory.on_gpu(work.update) for work in (shallowest, deepest)]
    per_layer = (peaks[1] - peaks[0]) / (max(works) - min(works))
    told = f"{sweeps.DEEP} channels of 14 x 14, fast batch of 32"
    where = "GPU" if bench.device != "cpu" else "RAM of a CPU process, no GPU"
    return {
        "network.layer.memory": Measured(max(per_layer, 0.0) / 1e6, f"{told}; {where}"),
        "network.layer.forward": Measured(_slope(passes) * 1e3, told),
        "network.layer.update": Measured(_slope(learning) * 1e3, f"local update; {told}"),
    }


def _slope(values: dict[int, float]) -> float:
    """Least-squares slope of value over number of layers."""
    return float(np.polyfit(list(values), list(values.values()), 1)[0])
