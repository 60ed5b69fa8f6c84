"""Two runs side by side: parameters and table values that differ."""

import numpy as np
import pandas as pd

from ltgate import figures, paths
from ltgate.errors import UserError
from ltgate.params import Params
from ltgate.runner import run_record

# Columns that name a row where they do not lead
KEYS = {"table_bench": ["work", "device", "threads", "peer"]}
SHOWN = 20  # rows of a table in a terminal
CLOSE = 1e-9  # relative: what is written has ten digits


def compare(one: str, other: str) -> dict[str, pd.DataFrame]:
    """What differs between two runs: ``parameters``, and every table of both.

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
        found[name] = differences(first, second, (one, other), KEYS.get(name, []))
    return found


def differences(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str], keys: list[str]
) -> pd.DataFrame:
    """Values of two tables that differ, by row and column: both, and the difference of numbers.

    Rows are matched by ``keys`` or, without any, by the shortest run of leading columns that tells
    all rows of both tables apart; equal ones are numbered. What one table lacks is a gap.
    """
    shared = [name for name in first if name in second]
    keys = [key for key in keys if key in shared]
    runs = [shared[:count] for count in range(1, len(shared) + 1)]
    apart = (r for r in runs if not (first.duplicated(r).any() or second.duplicated(r).any()))
    keys = keys or next(apart, shared[:-1])

    def values(frame: pd.DataFrame) -> pd.Series:
        frame = frame.astype(dict.fromkeys(keys, str))
        number = frame.groupby(keys).cumcount().rename("number")
        return frame.set_index([*keys, number]).rename_axis(columns="column").stack().dropna()

    both = pd.concat(map(values, (first, second)), axis=1, keys=names)
    numbers = both.apply(pd.to_numeric, errors="coerce")
    same = np.isclose(numbers[names[0]], numbers[names[1]], rtol=CLOSE, atol=0)
    same |= both[names[0]] == both[names[1]]
    both["difference"] = numbers[names[1]] - numbers[names[0]]
    return both[~same].droplevel("number")


def text(found: dict[str, pd.DataFrame]) -> str:
    """What :func:`compare` found, for a terminal; of a long table the first rows."""
    parts = []
    for title, frame in found.items():
        shown = frame.reset_index().head(SHOWN).to_string(index=False, na_rep="")
        more = f"\n  ... and {len(frame) - SHOWN} more" * (len(frame) > SHOWN)
        parts.append(f"{title} that differ: {len(frame)}" + f"\n{shown}{more}" * (len(frame) > 0))
    return "\n\n".join(parts)


def _parameters(name: str) -> dict[str, str]:
    """Parameters of a run: as it ran, else of the file of that name, else unknown."""
    values, file = run_record.read(name).get("parameters", {}), paths.params() / f"{name}.yaml"
    if not values and file.exists():
        values = Params.load(file).model_dump()
    return {p: str(values.get(p, "unknown")) for p in Params.model_fields if p != "name"}
