"""What a grid found: a row per trial, per configuration, and the best one as a parameter file.

Selection sees validation images only: ACC (mean over seeds), ties broken by less forgetting, then
by fewer spikes. A configuration takes part when all its seeds have a result.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ltgate import figures, metrics, paths, results
from ltgate.errors import Failed, UserError
from ltgate.figures import save_figure, save_table
from ltgate.files import atomic, read_json
from ltgate.grid.execution import folder, record, run
from ltgate.grid.spec import Grid
from ltgate.params import Params

MEASURES = ("acc", "forgetting", "spikes_per_sample")


def points(grid: Grid) -> pd.DataFrame:
    """One row per trial: the axes, then the columns

    ============================== ===============================================================
    config                         hash of the parameters
    method, cue, seed              as in :mod:`ltgate.results`
    acc, forgetting                0-1, on the split that the grid measures; NaN without a result
    spikes_per_sample              spikes of an image
    seconds                        time of all attempts (s); NaN where nothing was tried
    attempts, error                how often it was tried; why the last attempt failed, or empty
    stale                          whether its result is no longer done: of other code or images
    ============================== ===============================================================
    """
    where, lines = folder(grid.name), []
    for configuration in grid.configurations():
        for job in grid.jobs([configuration]):
            attempts = read_json(record(grid.name, job)).get("attempts", [])
            spent = [one["seconds"] for one in attempts if one.get("seconds") is not None]
            made = results.exists(where, job.key)
            error = "" if made or not attempts else attempts[-1].get("error", "")
            found = dict.fromkeys(MEASURES, np.nan)
            if made:
                values = results.by_seed(results.load(where, job.key), split=grid.file.measure)
                values = values[values["scenario"] != "task"].set_index("metric")["value"]
                found |= {name: values[name] for name in MEASURES if name in values}
            line = {
                **configuration.labels,
                "config": configuration.hash,
                "method": job.method,
                "cue": "yes" if job.cue else "no",
                "seed": job.seed,
                **found,
                "seconds": sum(spent) if spent else np.nan,
                "attempts": len(attempts),
                "error": error,
                "stale": bool(attempts) and not made and not error,
            }
            lines.append(line)
    return pd.DataFrame(lines)


def table(grid: Grid) -> pd.DataFrame:
    """``table_grid``: one row per configuration, method and cue; the selected one is marked.

    The axes, ``config``, ``method``, ``cue``; mean and 95 % interval over seeds of ``acc`` and
    ``forgetting``, mean ``spikes_per_sample``; ``seeds`` with a result, ``failed`` ones and the
    last ``error``, ``seconds`` of trials, ``stale`` results (of other code or images),
    ``best`` = yes for the selected row.
    """
    frame, lines = points(grid), []
    names = [*grid.axes, "config", "method", "cue"]
    for _, part in frame.groupby([frame[name].map(str) for name in names], sort=False):
        line = part[names].iloc[0].to_dict()
        for name in MEASURES[:2]:
            values = part[name].dropna()
            interval = metrics.mean_interval(values) if len(values) else [np.nan] * 3
            line |= zip((name, f"{name}_low", f"{name}_high"), interval, strict=True)
        errors = part.loc[part["error"] != "", "error"]
        line |= {
            "spikes_per_sample": part["spikes_per_sample"].mean(),
            "seeds": int(part["acc"].notna().sum()),
            "failed": len(errors),
            "error": errors.iloc[-1] if len(errors) else "",
            "seconds": part["seconds"].sum(),
            "stale": int(part["stale"].sum()),
            "best": "",
        }
        lines.append(line)
    made = pd.DataFrame(lines)
    if grid.file.measure == "validation" and len(order := _ranked(made)):
        made.loc[order.index[0], "best"] = "yes"
    return made


def best(grid: Grid, frame: pd.DataFrame | None = None) -> Params:
    """The selected configuration, also written as ``figures/<name>/best.yaml`` for the runner.

    ``frame`` is what :func:`table` gave.
    """
    if grid.file.measure != "validation":
        raise UserError(f"measure = {grid.file.measure!r}: selection is on validation data only")
    order = _ranked(table(grid) if frame is None else frame)
    if order.empty:
        raise UserError(f"grid {grid.name}: no configuration has a result for all seeds")
    row = order.iloc[0]
    chosen = next(c for c in grid.configurations() if c.hash == row["config"])
    params = grid.params(chosen).with_(name=f"{grid.name}-best", methods=[row["method"]])
    told = ", ".join(f"{axis} = {row[axis]}" for axis in grid.axes)
    found = "Validation ACC {acc:.4f}, forgetting {forgetting:.4f}, {seeds} seeds.".format(**row)
    text = f"# Best of grid {grid.name}: {told}\n# {found}\n"
    with atomic(paths.figures(grid.name) / "best.yaml") as temporary:
        temporary.write_text(text + params.to_yaml(), encoding="utf-8")
    return params


def ablations(grid: Grid) -> pd.DataFrame:
    """``table_ablations``: ``variant``, then the columns of ``table_main``."""
    if list(grid.axes) != ["variant"]:
        raise UserError(f"grid {grid.name}: has no variants, or other axes beside them")
    where, parts = folder(grid.name), []
    for configuration in grid.configurations():
        keys = [job.key for job in grid.jobs([configuration])]
        if rows := [results.load(where, key) for key in keys if results.exists(where, key)]:
            part = results.summarise(pd.concat(rows), split=grid.file.measure)
            parts.append(part.assign(variant=configuration.labels["variant"]))
    return pd.concat(parts, ignore_index=True)[["variant", *results.MAIN_COLUMNS]]


def slices(grid: Grid, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`points` or :func:`table`, once per axis: what ``figures.grid_slices`` takes.

    Columns: ``axis``, ``value`` on it, ``accuracy``.
    """
    parts = [
        pd.DataFrame({"axis": axis, "value": frame[axis], "accuracy": frame["acc"]})
        for axis in grid.axes
    ]
    return pd.concat(parts, ignore_index=True)


def report(grid: Grid) -> Iterator[str]:
    """Run ``grid``; texts to print. Tables and figures land in ``figures/<name>``.

    Raises `Failed` at the end if a trial has no result.
    """
    run(grid)
    found, where = table(grid), paths.figures(grid.name)
    save_table(found, where, "table_grid")
    if found["acc"].isna().all():
        raise UserError(f"grid {grid.name}: no trial has a result; {found['error'].iloc[0]}")
    if list(grid.axes) == ["variant"]:
        frame = ablations(grid)
        save_table(frame, where, "table_ablations")
        save_figure(figures.ablations(frame), where, "ablations")
    else:
        if len(grid.axes) == 2:
            y, x = grid.axes
            seeds = points(grid).rename(columns={"acc": "accuracy"})
            seeds = seeds[(seeds["cue"] == "yes") & (seeds["method"] == grid.base.methods[0])]
            save_figure(figures.grid_heatmap(seeds, x, y), where, "grid_heatmap")
        save_figure(figures.grid_slices(slices(grid, found)), where, "grid_slices")
    shown = [*grid.axes, "method", "cue", "acc", "forgetting", "seeds", "failed", "best"]
    yield figures.show(found[shown]).to_string(index=False)
    for error in found.loc[found["error"] != "", "error"].unique():
        yield f"failed: {error}"
    if grid.file.measure == "validation":
        params = best(grid, found)
        yield f"best: {where / 'best.yaml'} (configuration {params.hash})"
    if failed := int(found["failed"].sum()):
        raise Failed(f"{grid.name}: {failed} trial(s) without a result; the same command goes on")


def _ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`table` with the cue and a result for all seeds, best first."""
    complete = frame[frame["acc"].notna() & (frame["cue"] == "yes")]
    complete = complete[complete["seeds"] == frame["seeds"].max()]
    order = complete[list(MEASURES)].round({"acc": 12, "forgetting": 12})
    ascending = [False, True, True]
    return complete.loc[order.sort_values([*MEASURES], ascending=ascending, kind="stable").index]
