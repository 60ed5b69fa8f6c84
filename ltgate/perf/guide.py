"""The performance guide, row by row: what it says, what is measured here, and whether it holds.

``guide.csv`` has every bullet of the guide: an id, the section, the row in short, the guide's value
in its words and as numbers (``guide_low``, ``guide_high``, ``unit``), and the function that
measures it, ``module.function`` of this package. It takes the bench and returns named facts, of
which the row's ``value`` is a formula and ``told`` a text with fields; ``note`` is a text of its
own. Rows on Loihi 2 come from ``table_loihi.csv`` of notebook 5, which says what is an estimate: of
the bench's own folder, else the published one: it takes minutes to make, and none of its numbers
depends on the bench.

Verdicts: ``better``, ``holds`` or ``worse`` than the guide's costs (a single value ``~x`` holds
within 20 %), ``holds`` or ``does not hold`` of its statements, ``cannot be right`` where it
contradicts itself (the note has the arithmetic), ``not measured here`` with the reason. A row's
``verdict`` is empty for costs, one of these words, or a formula of the facts and ``value``.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from ltgate import paths
from ltgate.loihi import mapping
from ltgate.perf.bench import Bench
from ltgate.progress import track

VERDICTS = ("better", "worse", "holds", "does not hold", "cannot be right", "not measured here")
COLUMNS = [
    "id", "section", "row", "guide", "measured", "unit", "ratio", "verdict", "note",
]  # fmt: skip
TOLERANCE = 0.2
PUBLISHED = paths.published() / "figures" / "mnist"
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
        raise Absent("takes minutes: bench = full, as ltgate bench does")


def read() -> pd.DataFrame:
    """``guide.csv``; empty cells of text are empty text, of numbers NaN."""
    empty = {"guide_low": "", "guide_high": ""}
    path = Path(__file__).parent / "guide.csv"
    return pd.read_csv(path, keep_default_na=False, na_values=empty)


def table(bench: Bench) -> pd.DataFrame:
    """``table_guide``: all rows, measured now.

    ``ratio`` is the measured value over the middle of the guide's.
    """
    rows = read()
    names = track(rows["measured_by"].drop_duplicates(), label="performance guide")
    facts = {name: measure(name, bench) for name in names}
    answers = [answer(row, facts[row.measured_by]) for row in rows.itertuples()]
    return pd.DataFrame(answers, columns=COLUMNS)


def measure(name: str, bench: Bench) -> Facts | Absent:
    """The facts of a measuring function, or why there are none."""
    if name == TEXT:
        return {}
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


def judge(value: float, low: float, high: float) -> str:
    """A cost against the guide's range."""
    slack = TOLERANCE if low == high else 0.0
    if value < low * (1 - slack):
        return "better"
    return "worse" if value > high * (1 + slack) else "holds"


# A row's unit in the unit of its metric.
_UNITS = {
    "s": 1.0, "ms": 1e3, "min": 1 / 60, "MB": 1e-6, "GB": 1e-9, "pJ": 1e12, "%": 100.0, "bit": 1.0,
}  # fmt: skip
_STATED = [
    "accuracy_loss_chip_aware", "accuracy_loss_full_precision", "core_share", "lava_batch_speedup",
    "search_energy_saved", "traffic_share_fast",
]  # fmt: skip


def loihi_estimates(bench: Bench) -> Facts:
    """The metrics that rows name as their value, in the row's unit, and where each comes from."""
    table, file = _loihi(bench)
    rows = read()
    facts: Facts = {}
    for row in rows[rows["measured_by"] == "guide.loihi_estimates"].itertuples():
        if row.value not in table.index:
            facts[row.value] = Absent(f"{file} has no {row.value}: Lava was not installed")
            continue
        found = table.loc[row.value]
        value, low, high = (found[["value", "low", "high"]] * _UNITS[row.unit]).astype(float)
        spread = f", {low:.4g} to {high:.4g}" if low != high else ""
        facts[row.value] = float(value)
        facts[f"{row.value}_told"] = f"{found['kind']}{spread}: {found['source']} ({file})"
    return facts


def loihi_statements(bench: Bench) -> Facts:
    """Metrics that rows on tips and limits state, NaN where the table has none.

    And kilobytes of synapses a core takes; cores that 50,176 inputs to 256 neurons would take, 0
    where not even one neuron can be placed.
    """
    shape = mapping.Shape("dense1", 1, 1, 256, 28 * 28 * 64, 0, 2)
    try:
        cores = mapping.place([shape]).cores
    except mapping.DoesNotFit:
        cores = 0
    return {
        **_loihi(bench)[0]["value"].reindex(_STATED).to_dict(),
        "cores_without_strides": cores,
        "core_kilobytes": mapping.WORDS * mapping.WORD_BITS / 8e3,
    }


def _loihi(bench: Bench) -> tuple[pd.DataFrame, str]:
    """The table by metric, and its folder and name."""
    for folder in (paths.figures(bench.params.name), PUBLISHED):
        path = folder / "table_loihi.csv"
        if path.exists():
            return pd.read_csv(path).set_index("metric"), f"{folder.name}/{path.name}"
    raise Absent("notebook 05_loihi2 has not been run")
