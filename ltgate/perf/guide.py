"""The performance guide, row by row: what it says, what is measured here, and whether it holds.

``guide.csv`` has every bullet of the guide: an id, the section, the row in short, the guide's value
in its words and as numbers (``guide_low``, ``guide_high``, ``unit``), and the function that
measures it. A function decorated with :func:`measures` returns ``{id: Measured}`` for all rows
that name it. Rows on Loihi come from a table that notebook 5 leaves.

Verdicts: ``better``, ``holds`` or ``worse`` than the guide's costs (a single value ``~x`` holds
within 20 %), ``holds`` or ``does not hold`` of its statements, ``cannot be right`` where it
contradicts itself (the note has the arithmetic), ``not measured here`` with the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pandas as pd

from ltgate.perf.bench import Bench
from ltgate.progress import track

VERDICTS = ("better", "worse", "holds", "does not hold", "cannot be right", "not measured here")
COLUMNS = [
    "id", "section", "row", "guide", "measured", "unit", "ratio", "verdict", "note",
]  # fmt: skip
TOLERANCE = 0.2
NO_GPU = "no GPU"

# The modules whose functions measure; imported when a table is wanted.
_MODULES = (
    "hardware", "loading", "passes", "training", "scaling", "grids", "tips", "monitors", "limits",
    "loihi",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What was found for one row.

    Attributes:
        value: In the row's unit, or in words; None where nothing could be measured.
        note: What was measured, or why not.
        verdict: For statements; empty = the value is judged against the guide's.
    """

    value: float | str | None
    note: str = ""
    verdict: str = ""


Measure = Callable[[Bench], dict[str, Measured]]
MEASURES: dict[str, Measure] = {}
"""Every measuring function by its name, once :func:`functions` has been called."""


def measures(function: Measure) -> Measure:
    """Register a measuring function under its own name."""
    MEASURES[function.__name__] = function
    return function


def functions() -> dict[str, Measure]:
    """All measuring functions."""
    for module in _MODULES:
        import_module(f"ltgate.perf.{module}")
    return MEASURES


def absent(reason: str = NO_GPU) -> Measured:
    """A row that this machine cannot measure."""
    return Measured(None, f"not measured here ({reason})", "not measured here")


def holds(statement: bool) -> str:
    """The verdict on a statement."""
    return "holds" if statement else "does not hold"


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
    found: dict[str, Measured] = {}
    names = [name for name in rows["measured_by"].unique() if name in functions()]
    for name in track(names, label="performance guide"):
        found |= functions()[name](bench)
    return pd.DataFrame([_row(row, found) for row in rows.itertuples()], columns=COLUMNS)


def _row(row, found: dict[str, Measured]) -> dict:
    measured = Measured(None) if row.measured_by == "text" else found[row.id]
    value, ratio = measured.value, float("nan")
    middle = (row.guide_low + row.guide_high) / 2
    if isinstance(value, float | int) and middle > 0:
        ratio = value / middle
    verdict = row.verdict or measured.verdict or judge(value, row.guide_low, row.guide_high)
    note = "; ".join(filter(None, [row.note, measured.note]))
    return {
        **{name: getattr(row, name) for name in ("id", "section", "row", "guide", "unit")},
        "measured": "" if value is None else value,
        "ratio": ratio,
        "verdict": verdict,
        "note": note,
    }


def judge(value: float | str | None, low: float, high: float) -> str:
    """A cost against the guide's range."""
    if not isinstance(value, float | int):
        raise TypeError(f"a verdict on {value!r} must be given")
    slack = TOLERANCE if low == high else 0.0
    if value < low * (1 - slack):
        return "better"
    return "worse" if value > high * (1 + slack) else "holds"
