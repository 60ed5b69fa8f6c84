"""The performance guide, row by row: what it says, what is measured here, and whether it holds.

``guide.csv`` has every bullet of the guide: an id, the section, the row in short, the guide's value
in its words and as numbers (``guide_low``, ``guide_high``, ``unit``), and the function that
measures it, ``module.function`` of this package. It takes the bench and returns named facts, of
which the row's ``value`` is a formula and ``told`` a text with fields; ``note`` is a text of its
own. Rows on Loihi come from a table that notebook 5 leaves.

Verdicts: ``better``, ``holds`` or ``worse`` than the guide's costs (a single value ``~x`` holds
within 20 %), ``holds`` or ``does not hold`` of its statements, ``cannot be right`` where it
contradicts itself (the note has the arithmetic), ``not measured here`` with the reason. A row's
``verdict`` is empty for costs, one of these words, or a formula of the facts and ``value``.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from ltgate.perf.bench import Bench
from ltgate.progress import track

VERDICTS = ("better", "worse", "holds", "does not hold", "cannot be right", "not measured here")
COLUMNS = [
    "id", "section", "row", "guide", "measured", "unit", "ratio", "verdict", "note",
]  # fmt: skip
TOLERANCE = 0.2
TEXT = "text"  # measures a row that is answered by its note alone

Facts = dict[str, Any]


class Absent(Exception):
    """What a measuring function raises, or gives as a fact, where it cannot measure: the reason."""


def need_gpu(bench: Bench) -> None:
    """Raise :class:`Absent` where the bench has no GPU."""
    if bench.device == "cpu":
        raise Absent("no GPU")


def need_minutes(bench: Bench) -> None:
    """Raise :class:`Absent` where the bench measures only what takes seconds."""
    if not bench.extent.everything:
        raise Absent("takes minutes: bench = smoke or full, as ltgate bench does")


def read() -> pd.DataFrame:
    """``guide.csv``; empty cells of text are empty text, of numbers NaN."""
    frame = pd.read_csv(Path(__file__).parent / "guide.csv", keep_default_na=False)
    for column in ("guide_low", "guide_high"):
        frame[column] = pd.to_numeric(frame[column].replace("", None))
    return frame


def table(bench: Bench, only: str = "") -> pd.DataFrame:
    """``table_guide``: all rows, or those whose id starts with ``only``, measured now.

    ``ratio`` is the measured value over the middle of the guide's.
    """
    rows = read()
    rows = rows[rows["id"].str.startswith(only)]
    facts: dict[str, Facts | Absent] = {TEXT: {}}
    for name in track(rows["measured_by"].drop_duplicates(), label="performance guide"):
        if name != TEXT:
            facts[name] = measure(name, bench)
    answers = [answer(row, facts[row.measured_by]) for row in rows.itertuples()]
    return pd.DataFrame(answers, columns=COLUMNS)


def measure(name: str, bench: Bench) -> Facts | Absent:
    """The facts of a measuring function, or why there are none."""
    module, function = name.split(".")
    try:
        return getattr(import_module(f"ltgate.perf.{module}"), function)(bench)
    except Absent as reason:
        return reason


def answer(row: Any, facts: Facts | Absent) -> dict[str, Any]:
    """A row of :func:`table` from one of :func:`read`."""
    value = facts
    if isinstance(facts, dict):
        value = _evaluated(row.value, facts) if row.value else ""
    if isinstance(value, Absent):
        told, value = f"not measured here ({value})", ""
        verdict = row.verdict if row.verdict == "cannot be right" else "not measured here"
    else:
        told = row.told.format_map(facts)
        verdict = row.verdict or judge(value, row.guide_low, row.guide_high)
        if verdict not in VERDICTS:
            verdict = _evaluated(verdict, {**facts, "value": value})
    if not isinstance(verdict, str):
        verdict = "holds" if verdict else "does not hold"
    middle = (row.guide_low + row.guide_high) / 2
    numeric = isinstance(value, float | int) and middle > 0
    return {
        **{name: getattr(row, name) for name in ("id", "section", "row", "guide", "unit")},
        "measured": value,
        "ratio": value / middle if numeric else float("nan"),
        "verdict": verdict,
        "note": "; ".join(filter(None, [row.note, told])),
    }


def _evaluated(formula: str, facts: Facts) -> Any:
    return eval(formula, {"__builtins__": {"abs": abs}}, facts)  # of this package's own file


def judge(value: float | str, low: float, high: float) -> str:
    """A cost against the guide's range."""
    if not isinstance(value, float | int):
        raise TypeError(f"a verdict on {value!r} must be given")
    slack = TOLERANCE if low == high else 0.0
    if value < low * (1 - slack):
        return "better"
    return "worse" if value > high * (1 + slack) else "holds"
