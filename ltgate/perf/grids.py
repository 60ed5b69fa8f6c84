"""Rows on the grid search: time of all trials against combinations and epochs per run."""

from pathlib import Path

from ltgate.grid.cost import cost
from ltgate.grid.spec import Grid, GridFile
from ltgate.perf.bench import Bench
from ltgate.perf.guide import Measured, holds, measures
from ltgate.perf.scaling import LINEAR

IMAGES = 64  # a task
COMBINATIONS, EPOCHS = (1, 2, 4), (4, 8, 16)


@measures
def grid(bench: Bench) -> dict[str, Measured]:
    """Exponents of the published grid's cost, one trial at a time."""
    axes = {"eta": [1e-5, 2e-5], "tau_slow_ms": [100.0, 250.0]}  # so small: see Bench.published
    file = GridFile(axes=axes, methods=["lt_gate_published"])
    base = bench.published.with_(
        name="bench-grid", cluster="none", control=False, curve_points=1, threads=bench.threads
    )
    frame = cost(Grid.create(file, Path(), base), COMBINATIONS, EPOCHS, IMAGES)
    told = f"seconds of all trials, {IMAGES} images a task, one worker; fitted exponent, 1 = linear"
    rows = {}
    for row, sweep in (("combinations", "combinations"), ("epochs", "epochs per run")):
        chosen = (frame["sweep"] == sweep) & (frame["quantity"] == "trials")
        k = float(frame.loc[chosen, "exponent"].iloc[0])
        rows[f"scaling.grid.{row}"] = Measured(k, told, holds(abs(k - 1) <= LINEAR))
    return rows
