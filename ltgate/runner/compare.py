"""Two runs side by side: parameters, table values and figures that differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltgate import figures, files, paths
from ltgate.errors import UserError
from ltgate.params import Params
from ltgate.runner import report, run_record

# Columns that name a row where they do not lead
KEYS = {"table_bench": ["work", "device", "threads", "peer"]}
SHOWN = 20  # rows of a table in a terminal
CLOSE = 1e-9  # relative: what is written has ten digits


def compare(one: str, other: str) -> dict[str, pd.DataFrame]:
    """What differs between two runs: ``parameters``, every table of both, ``figures``.

    Runs are given by name; those that are only in ``figures/`` do too.
    """
    if one == other:
        raise UserError(f"compare {one} {other}: the two must differ")
    for name in (one, other):
        Params(name=name)  # a name, not a path
        if not (paths.run(name).is_dir() or paths.figures(name).is_dir()):
            raise UserError(f"{name}: there is neither {paths.run(name)} nor {paths.figures(name)}")
    values = [pd.Series(_parameters(name)) for name in (one, other)]
    changed = values[0].compare(values[1], result_names=(one, other))
    found = {"parameters": changed.rename_axis("parameter")}
    tables = [{p.stem: p for p in paths.figures(r).glob("table_*.csv")} for r in (one, other)]
    for name in sorted(tables[0].keys() & tables[1].keys()):
        first, second = (figures.read_table(side[name]) for side in tables)
        found[name] = differences(first, second, (one, other), KEYS.get(name, ()))
    return {**found, "figures": _figures(one, other)}


def differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    names: tuple[str, str] = ("one", "other"),
    keys: Sequence[str] = (),
) -> pd.DataFrame:
    """Values of two tables that differ, by row and column: both, and the difference of numbers.

    Rows are matched by ``keys``, by default the shortest run of leading columns that tells all rows
    of both tables apart. Of a row of one table alone it is said where it is ``there``, last, as
    column ``(row)``.
    """
    keys = [key for key in keys if key in first and key in second] or _keys(first, second)
    left, right = (_indexed(frame, keys) for frame in (first, second))
    rows = left.index.symmetric_difference(right.index, sort=False)
    there = {
        name: ["there" if row in side.index else "" for row in rows]
        for name, side in zip(names, (left, right), strict=True)
    }
    lacking = pd.DataFrame(there, pd.MultiIndex.from_product([rows, ["(row)"]]))
    left, right = left.align(right, join="inner")
    numbers = [set(side.select_dtypes("number")) for side in (left, right)]
    for name in numbers[0] & numbers[1]:
        near = np.isclose(left[name], right[name], rtol=CLOSE, atol=0, equal_nan=True)
        right[name] = right[name].where(~near, left[name])
    found = left.compare(right, result_names=names).stack(0).dropna(how="all")
    values = found.reindex(columns=names).apply(pd.to_numeric, errors="coerce")
    found = found.reindex(columns=names).assign(difference=values[names[1]] - values[names[0]])
    return pd.concat([found, lacking]).rename_axis(["row", "column"])


def text(found: dict[str, pd.DataFrame]) -> str:
    """What :func:`compare` found, for a terminal; of a long table the first rows."""
    parts = []
    for title, frame in found.items():
        shown = frame.reset_index().head(SHOWN).to_string(index=False, na_rep="")
        more = f"\n  ... and {len(frame) - SHOWN} more: --out FILE.html has them all"
        parts.append(f"{title} that differ: {len(frame)}" + f"\n{shown}" * (not frame.empty))
        parts[-1] += more * (len(frame) > SHOWN)
    return "\n\n".join(parts)


def write(found: dict[str, pd.DataFrame], file: str | Path) -> Path:
    """The same as an HTML page, with the figures that differ side by side."""
    one, other = found["parameters"].columns
    texts = [f"# {one} beside {other}"]
    for title, frame in found.items():
        texts += [f"## {title}", report.table(frame.reset_index()) if len(frame) else "none"]
    for name in found["figures"].index[found["figures"]["state"] == "differs"]:
        pair = [paths.figures(run) / f"{name}.png" for run in (one, other)]
        half = "".join(f'<td style="width: 50%">{report.image(p, name)}</td>' for p in pair)
        texts.append(f"### {name}\n\n<table><tr>{half}</tr></table>")
    return report.page(file, texts[0].strip("# "), texts)


def _parameters(name: str) -> dict[str, str]:
    """Parameters of a run: as it ran, else of the file of that name, else unknown."""
    values: dict[str, Any] = run_record.read(name).get("parameters", {})
    file = paths.params() / f"{name}.yaml"
    if not values and file.exists():
        values = Params.load(file).model_dump()
    return {p: str(values.get(p, "unknown")) for p in Params.model_fields if p != "name"}


def _figures(one: str, other: str) -> pd.DataFrame:
    sums = [
        {path.stem: files.sha256(path) for path in paths.figures(run).glob("*.png")}
        for run in (one, other)
    ]
    states = {
        name: "differs" if name in sums[0] and name in sums[1]
        else f"only in {one if name in sums[0] else other}"
        for name, _ in sorted(sums[0].items() ^ sums[1].items())
    }  # fmt: skip
    return pd.DataFrame({"state": states}, dtype=object).rename_axis("figure")


def _keys(first: pd.DataFrame, second: pd.DataFrame) -> list[str]:
    shared = [name for name in first if name in second]
    for count in range(1, len(shared)):
        if not any(frame.duplicated(shared[:count]).any() for frame in (first, second)):
            return shared[:count]
    return shared


def _indexed(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """``frame`` with its key columns joined as the index; a repeated row gets a number."""
    names = frame[keys].map(str).agg(", ".join, axis=1)
    repeat = names.groupby(names).cumcount()
    index = names.where(repeat == 0, names + " #" + (repeat + 1).astype(str))
    return frame.drop(columns=keys).set_axis(pd.Index(index), axis=0)
