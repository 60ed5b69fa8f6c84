"""What a grid found: a row per trial, per configuration, and the best one as a parameter file.

Selection sees validation images only: ACC (mean over seeds), ties broken by less forgetting, then
by fewer spikes. A configuration takes part when all its seeds have a result.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ltgate import metrics, paths, provenance, results
from ltgate.errors import UserError
from ltgate.files import atomic, read_json
from ltgate.grid.spec import Configuration, Grid
from ltgate.grid.trial import folder
from ltgate.params import Params

MEASURES = ("acc", "forgetting", "spikes_per_sample")


def points(
    grid: Grid, configurations: Iterable[Configuration] | None = None, scenario: str = "class"
) -> pd.DataFrame:
    """One row per trial: the axes, then the columns

    ============================== ===============================================================
    config                         hash of the parameters
    method, cue, seed              as in :mod:`ltgate.results`
    acc, forgetting                0-1, on the split that the grid measures; NaN without a result
    spikes_per_sample              spikes of an image
    seconds                        time of all attempts (s); NaN where nothing was tried
    attempts, error                how often it was tried; why the last attempt failed, or empty
    stale                          whether other learning code than today's made the result
    ============================== ===============================================================
    """
    rows = []
    where, code = folder(grid.name), provenance.learning_code()
    for configuration in grid.configurations() if configurations is None else configurations:
        for job in grid.jobs(iter([configuration])):
            record = read_json(where / "trials" / f"{job.key}.json")
            attempts = record.get("attempts", [])
            spent = [
                attempt["seconds"] for attempt in attempts if attempt.get("seconds") is not None
            ]
            found = dict.fromkeys(MEASURES, np.nan)
            if results.exists(where, job.key):
                found = _measured(results.load(where, job.key), grid.file.measure, scenario)
                error = ""
            else:
                error = _error(attempts)
            rows.append(
                {
                    **configuration.labels,
                    "config": configuration.hash,
                    "method": job.method,
                    "cue": "yes" if job.cue else "no",
                    "seed": job.seed,
                    **found,
                    "seconds": sum(spent) if spent else np.nan,
                    "attempts": len(attempts),
                    "error": error,
                    "stale": bool(record) and record["code"] != code,
                }
            )
    return pd.DataFrame(rows)


def table(
    grid: Grid, configurations: Iterable[Configuration] | None = None, scenario: str = "class"
) -> pd.DataFrame:
    """``table_grid``: one row per configuration, method and cue; the selected one is marked.

    The axes, ``config``, ``method``, ``cue``; mean and 95 % interval over seeds of ``acc`` and
    ``forgetting``, mean ``spikes_per_sample``; ``seeds`` with a result, ``failed`` ones and the
    last ``error``, ``seconds`` of trials, ``stale`` results (of other learning code than today's),
    ``best`` = yes for the selected row.
    """
    return tabulate(grid, points(grid, configurations, scenario))


def tabulate(grid: Grid, frame: pd.DataFrame) -> pd.DataFrame:
    """:func:`table` from the rows of :func:`points`."""
    names = [*grid.axes, "config", "method", "cue"]
    lines = []
    for _, part in frame.groupby([frame[name].map(str) for name in names], sort=False):
        line = {name: part[name].iloc[0] for name in names}
        for measure in MEASURES[:2]:
            values = part[measure].dropna()
            interval = metrics.mean_interval(values) if len(values) else (np.nan,) * 3
            ends = ("", "_low", "_high")
            line |= {measure + end: x for end, x in zip(ends, interval, strict=True)}
        failed = part[part["error"] != ""]
        line |= {
            "spikes_per_sample": part["spikes_per_sample"].mean(),
            "seeds": int(part["acc"].notna().sum()),
            "failed": len(failed),
            "error": failed["error"].iloc[-1] if len(failed) else "",
            "seconds": part["seconds"].sum(),
            "stale": int(part["stale"].sum()),
            "best": "",
        }
        lines.append(line)
    made = pd.DataFrame(lines)
    if grid.file.measure == "validation" and (chosen := _best_row(grid, made)) is not None:
        made.loc[chosen, "best"] = "yes"
    return made


def best(grid: Grid, frame: pd.DataFrame | None = None) -> Params:
    """The selected configuration, also written as ``figures/<name>/best.yaml`` for the runner.

    ``frame`` is what :func:`table` or the last rung of ``halve`` gave.
    """
    if grid.file.measure != "validation":
        raise UserError(f"measure = {grid.file.measure!r}: selection is on validation data only")
    frame = table(grid) if frame is None else frame
    chosen = _best_row(grid, frame)
    if chosen is None:
        raise UserError(f"grid {grid.name}: no configuration has a result for all seeds")
    row = frame.loc[chosen]
    labels = {axis: row[axis] for axis in grid.axes}
    params = grid.params(_configuration(grid, labels)).with_(
        name=f"{grid.name}-best", methods=[row["method"]]
    )
    told = ", ".join(f"{axis} = {value}" for axis, value in labels.items())
    text = (
        f"# Best of grid {grid.name}: {told}\n"
        f"# Validation ACC {row['acc']:.4f}, forgetting {row['forgetting']:.4f}, "
        f"{int(row['seeds'])} seeds.\n"
    )
    with atomic(paths.figures(grid.name) / "best.yaml") as temporary:
        temporary.write_text(text + params.to_yaml(), encoding="utf-8")
    return params


def ablations(grid: Grid) -> pd.DataFrame:
    """``table_ablations``: ``variant``, then the columns of ``table_main``."""
    if list(grid.axes) != ["variant"]:
        raise UserError(f"grid {grid.name}: has no variants, or other axes beside them")
    parts = []
    for configuration in grid.configurations():
        keys = [job.key for job in grid.jobs(iter([configuration]))]
        keys = [key for key in keys if results.exists(folder(grid.name), key)]
        if not keys:
            continue
        rows = pd.concat([results.load(folder(grid.name), key) for key in keys])
        part = results.summarise(rows, split=grid.file.measure)
        part.insert(0, "variant", configuration.labels["variant"])
        parts.append(part)
    if not parts:
        raise UserError(f"grid {grid.name}: no variant has a result; run it first")
    return pd.concat(parts, ignore_index=True)


def slices(grid: Grid, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`points` or :func:`table`, once per axis: what ``figures.grid_slices`` takes.

    Columns: ``axis``, ``value`` on it, ``accuracy``.
    """
    parts = [
        pd.DataFrame({"axis": axis, "value": frame[axis], "accuracy": frame["acc"]})
        for axis in grid.axes
    ]
    return pd.concat(parts, ignore_index=True)


def ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`table` with the cue and a result for all seeds, best first."""
    complete = frame[frame["acc"].notna() & (frame["cue"] == "yes")]
    complete = complete[complete["seeds"] == frame["seeds"].max()]
    order = pd.DataFrame(
        {
            "acc": -complete["acc"].round(12),
            "forgetting": complete["forgetting"].round(12),
            "spikes": complete["spikes_per_sample"],
        }
    )
    return complete.loc[order.sort_values(list(order), kind="stable").index]


def _best_row(grid: Grid, frame: pd.DataFrame):
    order = ranked(frame)
    return order.index[0] if len(order) else None


def _configuration(grid: Grid, labels: dict) -> Configuration:
    """The configuration of these labels."""
    for configuration in grid.configurations():
        if all(str(configuration.labels[axis]) == str(labels[axis]) for axis in labels):
            return configuration
    raise UserError(f"grid {grid.name}: has no configuration {labels}")


def _measured(rows: pd.DataFrame, split: str, scenario: str) -> dict[str, float]:
    chosen = rows[(rows["split"] == split) & (rows["scenario"] == scenario)]
    R = results.r_matrix(chosen)
    spikes = chosen.loc[chosen["metric"] == "spikes_per_sample", "value"]
    return {
        "acc": metrics.average_accuracy(R),
        "forgetting": metrics.forgetting(R),
        "spikes_per_sample": float(spikes.iloc[0]) if len(spikes) else np.nan,
    }


def _error(attempts: list[dict]) -> str:
    """Why a trial has no result; empty where it has not been tried, or runs at this moment."""
    return (attempts[-1].get("error") or "") if attempts else ""
