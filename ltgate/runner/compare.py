"""Two runs side by side: parameters that differ, table rows that differ, figures that differ."""

from collections.abc import Iterator
from dataclasses import dataclass, field
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
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)  # row, column, <one>, <other>
    figures: pd.DataFrame = field(default_factory=pd.DataFrame)  # file, state

    @property
    def columns(self) -> list[str]:
        """Headings of the two runs' columns."""
        return [self.one, self.other]

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
        texts = [f"# {self.one} beside {self.other}", "## Parameters that differ"]
        texts.append(_or_none(self.parameters))
        for name, frame in self.tables.items():
            texts += [f"## {name}", _or_none(frame)]
        texts += ["## Figures", _or_none(self.figures)]
        for file in self.figures.loc[self.figures["state"] == "differs", "file"]:
            pair = [html.image(paths.figures(run) / f"{file}.png", file) for run in self.columns]
            half = "".join(f'<td style="width: 50%">{shown}</td>' for shown in pair)
            texts.append(f"### {file}\n\n<table><tr>{half}</tr></table>")
        return html.write(Path(path), f"ltgate: {self.one} beside {self.other}", texts)


def compare(one: str, other: str) -> Comparison:
    """Compare two runs by name; runs that are only in ``figures/`` do too."""
    if one == other:
        raise UserError(f"compare {one} {other}: the two must differ")
    for name in (one, other):
        if not _present(name):
            raise UserError(f"{name}: there is neither {paths.run(name)} nor {paths.figures(name)}")
    result = Comparison(one, other, _parameters(one, other))
    for name in _common(one, other, "table_*.csv"):
        frames = (pd.read_csv(paths.figures(run) / f"{name}.csv") for run in (one, other))
        result.tables[name] = differences(*frames, one, other, KEYS.get(name))
    result.figures = _figures(one, other)
    return result


def differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    one: str = "one",
    other: str = "other",
    keys: list[str] | None = None,
) -> pd.DataFrame:
    """Values that differ between two tables: columns row, column, ``one``, ``other``, difference.

    Rows are matched by ``keys``, by default the shortest run of leading columns that tells all rows
    of both tables apart. A row of one table alone has the column ``(row)``.
    """
    keys = [key for key in keys or [] if key in first and key in second]
    keys = keys or _leading_keys(first, second)
    left, right = (_indexed(frame, keys) for frame in (first, second))
    found = []
    for row in dict.fromkeys([*left.index, *right.index]):
        if row not in left.index or row not in right.index:
            present = ["there" if row in side.index else "" for side in (left, right)]
            found.append((row, "(row)", *present, np.nan))
            continue
        for column in [name for name in left if name in right]:
            a, b = left.at[row, column], right.at[row, column]
            if not _same(a, b):
                gap = b - a if _number(a) and _number(b) else np.nan
                found.append((row, column, a, b, gap))
    return pd.DataFrame(found, columns=["row", "column", one, other, "difference"])


def _present(name: str) -> bool:
    Params(name=name)  # a name, not a path
    return paths.run(name).is_dir() or paths.figures(name).is_dir()


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


def _common(one: str, other: str, pattern: str) -> list[str]:
    names = [{path.stem for path in paths.figures(run).glob(pattern)} for run in (one, other)]
    return sorted(names[0] & names[1])


def _figures(one: str, other: str) -> pd.DataFrame:
    stems = [{path.stem for path in paths.figures(run).glob("*.png")} for run in (one, other)]
    rows = []
    for name in sorted(stems[0] | stems[1]):
        if name not in stems[0] or name not in stems[1]:
            rows.append((name, f"only in {one if name in stems[0] else other}"))
            continue
        digests = {files.sha256(paths.figures(run) / f"{name}.png") for run in (one, other)}
        rows.append((name, "the same" if len(digests) == 1 else "differs"))
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


def _same(a: Any, b: Any) -> bool:
    if pd.isna(a) or pd.isna(b):
        return bool(pd.isna(a) and pd.isna(b))
    if _number(a) and _number(b):
        return bool(np.isclose(a, b, rtol=CLOSE, atol=0))
    return bool(a == b)


def _number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _section(title: str, frame: pd.DataFrame) -> str:
    return f"{title}\n{'  none' if frame.empty else frame.to_string(index=False, na_rep='')}\n"


def _or_none(frame: pd.DataFrame) -> str:
    return "none" if frame.empty else html.table(frame)
