"""Two runs side by side: parameters that differ, table rows that differ, figures that differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltgate import files, paths
from ltgate.errors import UserError
from ltgate.params import Params
from ltgate.runner import html, run_record

# Columns that name a row; of other tables the shortest run of leading columns that tells rows apart
KEYS = {
    "table_bench": ["work", "device", "threads", "peer"],
    "table_comparisons": ["method", "against", "metric", "scenario", "sequence", "cue"],
    "table_grid": ["config", "method", "cue"],
    "table_main": ["method", "scenario", "sequence", "cue", "metric"],
    "table_robustness": ["method", "trained_hz", "tested_hz", "presentation"],
}
SHOWN = 20
CLOSE = 1e-9  # relative: what is written has ten digits


@dataclass
class Comparison:
    """What differs between the runs ``one`` and ``other``."""

    one: str
    other: str
    parameters: pd.DataFrame  # parameter, <one>, <other>
    tables: dict[str, pd.DataFrame]  # row, column, <one>, <other>, difference
    figures: pd.DataFrame  # file, state

    def texts(self) -> Iterator[str]:
        """Lines for a terminal; of long tables the first ``SHOWN`` rows."""
        yield _section("parameters that differ", self.parameters)
        for name, frame in self.tables.items():
            yield _section(f"{name}: {len(frame)} values that differ", frame.head(SHOWN))
            if len(frame) > SHOWN:
                yield f"  ... and {len(frame) - SHOWN} more: --out FILE.html has them all\n"
        yield _section("figures", self.figures)

    def write(self, path: str | Path) -> Path:
        """One page with the same, and the figures that differ side by side."""
        parts = {"Parameters that differ": self.parameters, **self.tables, "Figures": self.figures}
        texts = [f"# {self.one} beside {self.other}"]
        for title, frame in parts.items():
            texts += [f"## {title}", "none" if frame.empty else html.table(frame)]
        for file in self.figures.loc[self.figures["state"] == "differs", "file"]:
            pair = [paths.figures(run) / f"{file}.png" for run in (self.one, self.other)]
            half = "".join(f'<td style="width: 50%">{html.image(p, file)}</td>' for p in pair)
            texts.append(f"### {file}\n\n<table><tr>{half}</tr></table>")
        return html.write(Path(path), f"ltgate: {self.one} beside {self.other}", texts)


def compare(one: str, other: str) -> Comparison:
    """Compare two runs by name; runs that are only in ``figures/`` do too."""
    if one == other:
        raise UserError(f"compare {one} {other}: the two must differ")
    for name in (one, other):
        Params(name=name)  # a name, not a path
        if not (paths.run(name).is_dir() or paths.figures(name).is_dir()):
            raise UserError(f"{name}: there is neither {paths.run(name)} nor {paths.figures(name)}")
    first, second = (_stems(run, "table_*.csv") for run in (one, other))
    tables = {
        name: differences(
            pd.read_csv(first[name]), pd.read_csv(second[name]), one, other, KEYS.get(name)
        )
        for name in sorted(first.keys() & second.keys())
    }
    return Comparison(one, other, _parameters(one, other), tables, _figures(one, other))


def differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    one: str = "one",
    other: str = "other",
    keys: list[str] | None = None,
) -> pd.DataFrame:
    """Values that differ between two tables: columns row, column, ``one``, ``other``, difference.

    Rows are matched by ``keys``, by default the shortest run of leading columns that tells all rows
    of both tables apart. A row of one table alone has the column ``(row)`` and comes last.
    """
    keys = [key for key in keys or [] if key in first and key in second]
    keys = keys or _leading_keys(first, second)
    sides = [_indexed(frame, keys) for frame in (first, second)]
    left, right = (side.astype(object).stack() for side in sides)
    left, right = left[left.index.isin(right.index)], right[right.index.isin(left.index)]
    right = right.loc[left.index]
    numbers = [pd.to_numeric(side.where(side.map(_number))) for side in (left, right)]
    same = right.where(~np.isclose(*numbers, rtol=CLOSE, atol=0), left)
    found = left.compare(same, result_names=(one, other)).rename_axis(["row", "column"])
    found["difference"] = (numbers[1] - numbers[0])[found.index]
    rows = dict.fromkeys([*sides[0].index, *sides[1].index])
    there = [["there" if row in side.index else "" for side in sides] for row in rows]
    alone = [(row, "(row)", *two) for row, two in zip(rows, there, strict=True) if "" in two]
    lacking = pd.DataFrame(alone, columns=["row", "column", one, other], dtype=object)
    return pd.concat([found.reset_index(), lacking], ignore_index=True)


def _parameters(one: str, other: str) -> pd.DataFrame:
    values = [_values(name) for name in (one, other)]
    rows = [
        (name, *(str(found.get(name, "unknown")) for found in values))
        for name in Params.model_fields
        if name != "name" and values[0].get(name) != values[1].get(name)
    ]
    return pd.DataFrame(rows, columns=["parameter", one, other])


def _values(name: str) -> dict[str, Any]:
    """Parameters of a run: as it ran, else of the file of that name; {} where there is neither."""
    file = paths.params() / f"{name}.yaml"
    ran = run_record.read(name).get("parameters", {})
    return ran or (Params.load(file).model_dump() if file.exists() else {})


def _stems(run: str, pattern: str) -> dict[str, Path]:
    return {path.stem: path for path in paths.figures(run).glob(pattern)}


def _figures(one: str, other: str) -> pd.DataFrame:
    first, second = (_stems(run, "*.png") for run in (one, other))
    rows = []
    for name in sorted(first | second):
        if name not in first or name not in second:
            rows.append((name, f"only in {one if name in first else other}"))
        else:
            same = files.sha256(first[name]) == files.sha256(second[name])
            rows.append((name, "the same" if same else "differs"))
    return pd.DataFrame(rows, columns=["file", "state"])


def _leading_keys(first: pd.DataFrame, second: pd.DataFrame) -> list[str]:
    shared = [name for name in first if name in second]
    for count in range(1, len(shared) + 1):
        if not any(frame.duplicated(shared[:count]).any() for frame in (first, second)):
            return shared[:count]
    return shared


def _indexed(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """``frame`` with its key columns joined as the index; a repeated row gets a number."""
    names = frame[keys].astype(str).agg(", ".join, axis=1) if len(frame) else pd.Series(dtype=str)
    repeat = names.groupby(names).cumcount()
    index = names.where(repeat == 0, names + " #" + (repeat + 1).astype(str))
    return frame.drop(columns=keys).set_axis(pd.Index(index), axis=0)


def _number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _section(title: str, frame: pd.DataFrame) -> str:
    return f"{title}\n{'  none' if frame.empty else frame.to_string(index=False, na_rep='')}\n"
