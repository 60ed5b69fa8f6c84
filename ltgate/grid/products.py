"""A whole grid for the command line: run it, then every table and figure that it gives."""

from collections.abc import Iterator

import pandas as pd

from ltgate import figures, paths
from ltgate.errors import Failed, UserError
from ltgate.figures import save_figure, save_table
from ltgate.grid.execution import run
from ltgate.grid.spec import Grid
from ltgate.grid.tables import ablations, best, points, slices, table
from ltgate.grid.trial import folder


def report(grid: Grid) -> Iterator[str]:
    """Run ``grid``; texts to print. Tables and figures land in ``figures/<name>``.

    Raises `Failed` at the end if a trial has no result.
    """
    run(grid)
    found = table(grid)
    save(grid, found)
    shown = [*grid.axes, "method", "cue", "acc", "forgetting", "seeds", "failed", "best"]
    yield figures.show(found[shown]).to_string(index=False)
    for error in found.loc[found["error"] != "", "error"].unique():
        yield f"failed: {error}"
    if stale := int(found["stale"].sum()):
        yield (
            f"{stale} results are of other learning code than today's; to have them made anew, "
            f"delete {folder(grid.name)}"
        )
    if grid.file.measure == "validation":
        params = best(grid, found)
        yield f"best: {paths.figures(grid.name) / 'best.yaml'} (configuration {params.hash})"
    if failed := int(found["failed"].sum()):
        raise Failed(f"{grid.name}: {failed} trial(s) without a result; the same command goes on")


def save(grid: Grid, found: pd.DataFrame) -> None:
    """Tables and figures of a grid's rows ``found``."""
    figures_folder = paths.figures(grid.name)
    save_table(found, figures_folder, "table_grid")
    if list(grid.axes) == ["variant"]:
        frame = ablations(grid)
        save_table(frame, figures_folder, "table_ablations")
        save_figure(figures.ablations(frame), figures_folder, "ablations")
        return
    if found["acc"].isna().all():
        raise UserError(f"grid {grid.name}: no trial has a result; {found['error'].iloc[0]}")
    if len(grid.axes) == 2 and not grid.file.samples:
        y, x = grid.axes
        seeds = points(grid).rename(columns={"acc": "accuracy"})
        seeds = seeds[(seeds["cue"] == "yes") & (seeds["method"] == grid.base.methods[0])]
        save_figure(figures.grid_heatmap(seeds, x, y), figures_folder, "grid_heatmap")
    save_figure(figures.grid_slices(slices(grid, found)), figures_folder, "grid_slices")
