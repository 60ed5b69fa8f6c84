"""Loihi 2 from ``table_loihi.csv`` of notebook 5, with what is an estimate named so.

The bench's own folder is looked at first, then the published ``figures/mnist``: the tables that the
rows come from take minutes to make, and none of their numbers depends on the bench.
"""

import pandas as pd

from ltgate import paths
from ltgate.loihi import mapping
from ltgate.perf import guide
from ltgate.perf.bench import Bench
from ltgate.perf.guide import Absent, Facts

PUBLISHED = paths.published() / "figures" / "mnist"

# A row's unit in the unit of its metric.
_UNITS = {
    "s": 1.0, "ms": 1e3, "min": 1 / 60, "MB": 1e-6, "GB": 1e-9, "pJ": 1e12, "%": 100.0, "bit": 1.0,
}  # fmt: skip
_STATED = [
    "accuracy_loss_chip_aware", "accuracy_loss_full_precision", "core_share", "lava_batch_speedup",
    "search_energy_saved", "traffic_share_fast",
]  # fmt: skip


def estimates(bench: Bench) -> Facts:
    """The metrics that rows name as their value, in the row's unit, and where each comes from."""
    table, file = _table(bench)
    rows = guide.read()
    facts: Facts = {}
    for row in rows[rows["measured_by"] == "loihi_rows.estimates"].itertuples():
        metric = row.value
        if metric not in table.index:
            facts[metric] = Absent(f"{file} has no {metric}: Lava was not installed")
            continue
        found = table.loc[metric]
        value, low, high = (found[["value", "low", "high"]] * _UNITS[row.unit]).astype(float)
        spread = f", {low:.4g} to {high:.4g}" if low != high else ""
        facts[metric] = float(value)
        facts[f"{metric}_told"] = f"{found['kind']}{spread}: {found['source']} ({file})"
    return facts


def statements(bench: Bench) -> Facts:
    """Metrics that rows on tips and limits state, NaN where the table has none; cores and memory
    of the chip."""
    table, _ = _table(bench)
    return {
        **table["value"].reindex(_STATED).to_dict(),
        "cores_without_strides": _cores_without_strides(),
        "core_kilobytes": mapping.WORDS * mapping.WORD_BITS / 8e3,
    }


def _table(bench: Bench) -> tuple[pd.DataFrame, str]:
    """The table by metric, and its folder and name."""
    for folder in (paths.figures(bench.params.name), PUBLISHED):
        path = folder / "table_loihi.csv"
        if path.exists():
            return pd.read_csv(path).set_index("metric"), f"{folder.name}/{path.name}"
    raise Absent("notebook 05_loihi2 has not been run")


def _cores_without_strides() -> int:
    """Cores of 50,176 inputs to 256 neurons; 0 where that cannot be placed."""
    try:
        shape = mapping.Shape("dense1", 1, 1, 256, 28 * 28 * 64, 0, 2)
        return mapping.place([shape]).cores
    except mapping.DoesNotFit:
        return 0
