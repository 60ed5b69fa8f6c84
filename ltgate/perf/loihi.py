"""Rows on Loihi: from ``table_loihi.csv`` of notebook 5, with what is an estimate named so.

The bench's own folder is looked at first, then the published ``figures/mnist``: the tables that the
rows come from take minutes to make, and none of their numbers depends on the bench.
"""

from pathlib import Path

import pandas as pd

from ltgate import paths
from ltgate.loihi import mapping
from ltgate.perf.bench import Bench
from ltgate.perf.guide import Measured, absent, holds, measures

PUBLISHED = paths.published() / "figures" / "mnist"
NO_CHIP = "no chip; notebook 05_loihi2 estimates it"

# Rows that are one number of the table: id -> metric, factor to the row's unit.
_NUMBERS = {
    "loihi.compilation.quantization": ("quantise_seconds", 1.0),
    "loihi.compilation.network": ("lava_build_seconds", 1 / 60),
    "loihi.compilation.memory": ("lava_peak_bytes", 1e-9),
    "loihi.inference.latency": ("latency_fast", 1e3),
    "loihi.inference.energy": ("dynamic_energy_fast", 1e12),
    "loihi.inference.cores": ("core_share", 100.0),
    "loihi.inference.memory": ("memory_per_core_bytes", 1e-6),
    "loihi.measurement.setup": ("setup_seconds", 1.0),
    "loihi.measurement.sample": ("twin_seconds_per_sample", 1e3),
    "loihi.measurement.total": ("twin_seconds_per_1000", 1 / 60),
    "network.layer.compilation": ("lava_build_share_per_layer", 100.0),
    "limits.loihi.weights": ("weight_bits", 1.0),
}
_MONITORS = ("cores", "energy", "latency", "memory")
_STATEMENTS = (
    "tips.loihi.quantization", "tips.loihi.batching", "tips.loihi.cores", "tips.loihi.energy",
    "limits.loihi.cores", "limits.loihi.memory", "limits.loihi.communication",
)  # fmt: skip


@measures
def loihi(bench: Bench) -> dict[str, Measured]:
    """All rows on Loihi."""
    rows = {f"monitors.loihi.{name}": absent(NO_CHIP) for name in _MONITORS}
    path = _table(bench)
    if path is None:
        missing = absent("notebook 05_loihi2 has not been run")
        return rows | dict.fromkeys([*_NUMBERS, *_STATEMENTS], missing)
    table = pd.read_csv(path).set_index("metric")
    for row, (metric, factor) in _NUMBERS.items():
        rows[row] = _number(table, metric, factor, path)
    return rows | _statements(table)


def _table(bench: Bench) -> Path | None:
    for folder in (paths.figures(bench.params.name), PUBLISHED):
        if (folder / "table_loihi.csv").exists():
            return folder / "table_loihi.csv"
    return None


def _number(table: pd.DataFrame, metric: str, factor: float, path: Path) -> Measured:
    if metric not in table.index:
        return absent(f"{path.parent.name}/{path.name} has no {metric}: Lava was not installed")
    row = table.loc[metric]
    spread = ""
    if row["low"] != row["high"]:
        spread = f", {row['low'] * factor:.4g} to {row['high'] * factor:.4g}"
    note = f"{row['kind']}{spread}: {row['source']} ({path.parent.name}/{path.name})"
    return Measured(float(row["value"]) * factor, note)


def _statements(table: pd.DataFrame) -> dict[str, Measured]:
    def value(metric: str) -> float:
        return float(table["value"].get(metric, float("nan")))

    aware, after = value("accuracy_loss_chip_aware"), value("accuracy_loss_full_precision")
    batching = value("lava_batch_speedup")
    traffic = value("traffic_share_fast")
    saved = value("search_energy_saved")
    return {
        "tips.loihi.quantization": Measured(
            after - aware,
            f"points of accuracy that training with the chip's weights saves: it loses {aware:.2f} "
            f"in integers, rounding afterwards {after:.2f}",
            holds(after - aware > 0.2),  # less is an image or two
        ),
        "tips.loihi.batching": Measured(
            batching,
            "times faster per sample in Lava with ten samples side by side",
            holds(batching > 1),
        ),
        "tips.loihi.cores": Measured(
            100 * value("core_share"),
            "% of cores with margin, estimate; every layer's share is in the figure loihi_cores",
            "holds",
        ),
        "tips.loihi.energy": Measured(
            100 * saved,
            "% of dynamic energy (estimate) that the search over firing rate, weight bits and "
            "input coding saves against the default parameters, within half a point of accuracy",
            holds(saved > 0),
        ),
        "limits.loihi.cores": Measured(
            _cores_without_strides(),
            "cores that the published network would take with all strides 1, as its code has it: "
            "refused, 0 = not even one neuron of its dense layer fits a core",
            "holds",
        ),
        "limits.loihi.memory": Measured(
            mapping.WORDS * mapping.WORD_BITS / 8e3,
            "kB of synapses a core takes (estimate): it limits the dense layer to a few neurons a "
            "core",
            "holds",
        ),
        "limits.loihi.communication": Measured(
            100 * traffic,
            "% of the dynamic energy of a fast sample (estimate) is spikes on their way",
            holds(traffic > 0.1),
        ),
    }


def _cores_without_strides() -> int:
    """Cores of 50,176 inputs to 256 neurons; 0 where that cannot be placed."""
    try:
        shape = mapping.Shape("dense1", 1, 1, 256, 28 * 28 * 64, 0, 2)
        return mapping.place([shape]).cores
    except mapping.DoesNotFit:
        return 0
