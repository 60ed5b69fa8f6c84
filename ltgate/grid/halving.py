"""Successive halving: most of the effort goes to the configurations that look best.

Every rung gives each configuration that is still in the same budget (training images, or passes),
more than the rung before; the best share ``keep`` of them, at least one, goes on. A trial of a rung
is an ordinary trial under the rung's budget, so a search that is stopped goes on where it was.
Ranking is on validation images, ties as in :mod:`ltgate.grid.tables`.

Source: Jamieson & Talwalkar 2016 (Non-stochastic best arm identification and hyperparameter
optimization, AISTATS).
"""

import math

import pandas as pd

from ltgate.errors import UserError
from ltgate.grid.execution import run
from ltgate.grid.spec import Configuration, Grid
from ltgate.grid.tables import ranked, table


def search(grid: Grid) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run a grid as its file says, by rungs or whole: rows of ``table``, and the last rung's."""
    if grid.file.halving:
        found = halve(grid)
        return found, found[found["rung"] == found["rung"].max()].reset_index(drop=True)
    run(grid)
    found = table(grid)
    return found, found


def halve(grid: Grid) -> pd.DataFrame:
    """Run the rungs of a grid file's ``halving``; the rows of ``table``, rung by rung.

    Two columns come first: ``rung`` (1, 2, ...) and ``budget``. Of several methods each
    configuration's best counts.
    """
    plan = grid.file.halving
    if plan is None:
        raise UserError(f"grid {grid.name}: halving is missing: parameter, budgets, keep")
    if grid.file.measure != "validation":
        raise UserError(f"measure = {grid.file.measure!r}: halving is on validation data only")
    left: list[Configuration] | None = None
    rungs = []
    for number, budget in enumerate(plan.budgets, 1):
        chosen = _budgeted(grid, left, {plan.parameter: budget})
        run(grid, chosen)
        frame = table(grid, chosen)
        frame.insert(0, "rung", number)
        frame.insert(1, "budget", budget)
        rungs.append(frame)
        order = ranked(frame)
        if order.empty:
            raise UserError(f"grid {grid.name}: rung {number} ({budget}) left no result")
        best_first = list(dict.fromkeys(order["config"]))
        kept = set(best_first[: max(1, math.floor(plan.keep * len(chosen)))])
        left = [configuration for configuration in chosen if configuration.hash in kept]
    return pd.concat(rungs, ignore_index=True)


def _budgeted(
    grid: Grid, left: list[Configuration] | None, budget: dict[str, int]
) -> list[Configuration]:
    """The configurations still in (all, at first) under a rung's budget."""
    every = grid.configurations(**budget)
    if left is None:
        return list(every)
    names = {tuple(map(str, configuration.labels.values())) for configuration in left}
    return [c for c in every if tuple(map(str, c.labels.values())) in names]
