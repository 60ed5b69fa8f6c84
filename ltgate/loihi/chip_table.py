"""Frames for the figures, and ``table_loihi``: every number with its kind and source.

``chip_table.csv`` has a row per metric: its name, unit, kind and source, with fields in braces that
the code here fills, as it does the number.
"""

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from ltgate.loihi import deploy, lava_backend, lava_check, learning, mapping
from ltgate.loihi.deploy import Activity, Deployment
from ltgate.loihi.estimate import Estimate, estimate
from ltgate.loihi.mapping import Mapping
from ltgate.params import Params

COLUMNS = ["metric", "value", "low", "high", "unit", "kind", "source"]
GRID_COLUMNS = 16


class Sizes(NamedTuple):
    """How much notebook 5 runs.

    Attributes:
        compared: Samples of each task, spike by spike in Lava.
        lava, twin: Samples that are timed.
        rates, bits, images: Points of the search, and training images of each task there.
        learned: Samples of each task that the chip's rule learns.
        repeats: Of what is timed against something else; the table has median and range.
    """

    compared: int
    lava: int
    twin: int
    rates: tuple[float, ...]
    bits: tuple[int, ...]
    images: int
    learned: int
    repeats: int


SMOKE = Sizes(2, 4, 40, (0.05,), (4, 8), 60, 16, 1)
FULL = Sizes(20, 100, 1000, (0.01, 0.02, 0.05), (4, 8), 500, 600, 3)


def sizes(params: Params) -> Sizes:
    """``SMOKE`` for a handful of training images, else ``FULL``."""
    return SMOKE if 0 < params.train_images <= 100 else FULL


@dataclass(frozen=True)
class Measured:
    """Everything measured on one deployment: the test sets on the twin, cores, estimates."""

    deployed: Deployment
    done: list[Activity]
    placed: Mapping
    estimates: list[Estimate]


def measure(deployed: Deployment) -> Measured:
    """Run the whole test set of every task on the twin; map; estimate."""
    positions = range(len(deployed.trial.tasks))
    done = [deploy.evaluate(deployed, position) for position in positions]
    placed = place(deployed)
    return Measured(deployed, done, placed, [estimate(deployed.net, d, placed) for d in done])


def place(deployed: Deployment, spread: int = 0) -> Mapping:
    """The network and its readout on cores; ``spread`` 0: as the parameter ``chip_spread`` says."""
    views = deployed.readout.views
    sizes = {part.view: len(part.weight) for part in views}
    read = mapping.readout_shapes(sizes, views[0].weight.shape[1])
    spread = spread or deployed.trial.params.chip_spread
    return mapping.place(mapping.shapes(deployed.net) + read, spread=spread)


def place_published(deployed: Deployment) -> Mapping | None:
    """All layers, with the dense ones that no readout here sees, and a readout on the last one.

    None where they do not fit.
    """
    network, bits = deployed.learner.network, deployed.net.weight_bits
    layers = mapping.layer_shapes(network.layers, network.dynamics.compartments, bits)
    last = network.layers[-1]
    read = mapping.readout_shapes({last.name: last.neurons}, deployed.learner.classes)
    try:
        return mapping.place(layers + read)
    except mapping.DoesNotFit:
        return None


def cores(placed: Mapping) -> pd.DataFrame:
    """The grid of cores for :func:`ltgate.figures.loihi_cores`, filled layer by layer."""
    owners = [
        (part.layer, min(1.0, max(left / part.capacity, part.words / mapping.WORDS)))
        for part in placed.placed
        for left in _shares(part)
    ]
    owners += [("margin", 0.0)] * (placed.cores - placed.bare)
    owners += [("", 0.0)] * (placed.available - len(owners))
    return pd.DataFrame(
        {
            "core": np.arange(placed.available),
            "row": np.arange(placed.available) // GRID_COLUMNS,
            "column": np.arange(placed.available) % GRID_COLUMNS,
            "layer": [layer for layer, _ in owners],
            "used": [used for _, used in owners],
        }
    )


def _shares(part: mapping.Placed) -> list[int]:
    """Neurons on each of a layer's cores."""
    left = part.total - part.neurons * np.arange(part.cores)
    return np.minimum(left, part.neurons).tolist()


def energy(measured: Measured) -> pd.DataFrame:
    """For :func:`ltgate.figures.loihi_energy`."""
    layers = pd.concat([e.layers for e in measured.estimates])
    parts = [c for c in layers if c.endswith("_energy")]
    table = layers.melt(["task", "layer"], parts, "part", "joules")
    return table.assign(part=table["part"].str.removesuffix("_energy"))


def ranges(measured: Measured) -> pd.DataFrame:
    """For :func:`ltgate.figures.loihi_ranges`."""
    rows = [
        (quantity, e.task, found.low, found.high)
        for quantity in ("dynamic energy", "total energy", "latency")
        for e in measured.estimates
        for found in [getattr(e, quantity.split()[0])]
    ]
    return pd.DataFrame(rows, columns=["quantity", "task", "low", "high"])


def twin_rows(deployed: Deployment, samples: int, repeats: int) -> list[dict]:
    """Wall time of ``samples`` validation samples of the first task on the twin."""
    deploy.evaluate(deployed, 0, "validation", limit=2)  # compiled and loaded
    start = time.perf_counter()
    done = deploy.evaluate(deployed, 0, "validation", limit=samples)
    seconds = (time.perf_counter() - start) / done.samples
    quantising = [deploy.deploy(deployed.trial).seconds for _ in range(repeats)]
    return [
        _row("twin_seconds_per_sample", seconds, samples=done.samples, task=done.task),
        _row("twin_seconds_per_1000", 1000 * seconds, samples=done.samples),
        _median("quantise_seconds", quantising),
    ]


def lava_rows(
    deployed: Deployment, samples: int, compared: lava_check.Compared | None, repeats: int
) -> list[dict]:
    """Build, run and memory of Lava, and its agreement with the twin."""
    if not lava_backend.available():
        return []
    found = lava_check.timing(deployed, 0, samples)
    layers = lava_check.build_per_layer(deployed, repeats)
    number, built, few = found["samples"], found["build_seconds"], min(samples, 10)
    seconds = found["run_seconds"] / number
    speedups = lava_check.batch_speedups(deployed, repeats, few)
    rows = [
        _row("lava_build_seconds", built, samples=number),
        _row("lava_peak_bytes", found["peak_bytes"], samples=number),
        _row("lava_seconds_per_sample", seconds, samples=number),
        _row("lava_seconds_per_100", 100 * seconds, samples=number),
        _median("lava_batch_speedup", speedups, samples=few),
        _row("setup_seconds", deploy.deploy(deployed.trial).seconds + built),
        _median("lava_build_seconds_per_layer", layers),
        _median("lava_build_share_per_layer", [seconds / built for seconds in layers]),
    ]
    if compared is not None:
        for task, part in compared.table.groupby("task", sort=False):
            told = {"samples": part["samples"].max(), "spikes": part["spikes"].sum()}
            differing = part["differing"].sum()
            rows.append(_row("lava_differing_spikes_{task}", differing, task=task, **told))
    return rows


def learning_rows(learned: learning.Compared) -> list[dict]:
    """Accuracy of the chip's and the library's rule when all is learned, and their weights."""
    last = learned.curves[learned.curves["samples"] == learned.curves["samples"].max()]
    rows = [
        _row("learned_accuracy_{rule}_{task}", row.accuracy, rule=_name(row.rule), task=row.task,
             samples=row.samples)
        for row in last.itertuples()
    ]  # fmt: skip
    return [*rows, _row("learned_weights_cosine", learned.cosine)]


def search_rows(found: pd.DataFrame, chosen: dict[str, object], params: Params) -> list[dict]:
    """What the energy-aware choice saves against the parameters as they are, and loses.

    Against the most accurate point if the search did not try them.
    """
    point = _point(found, chosen)
    base = _point(found, {name: getattr(params, name) for name in chosen})
    if base is None:
        base = found.sort_values(["accuracy", "joules"], ascending=[False, True]).iloc[0]
    against = ", ".join(f"{name} {base[name]}" for name in chosen)
    lost = 100 * (base["accuracy"] - point["accuracy"])
    return [
        _row("search_energy_saved", 1 - point["joules"] / base["joules"], against=against),
        _row("search_accuracy_lost", lost, against=against),
    ]


def _point(found: pd.DataFrame, values: dict[str, object]) -> pd.Series | None:
    rows = found[(found[list(values)] == pd.Series(values)).all(axis=1)]
    return rows.iloc[0] if len(rows) else None


def table(measured: Measured, accuracies: pd.DataFrame, more: list[dict]) -> pd.DataFrame:
    """``table_loihi``: metric, value, low, high, unit, kind, source."""
    rows = _accuracy_rows(measured.deployed, accuracies) + more + _core_rows(measured)
    for done, found in zip(measured.done, measured.estimates, strict=True):
        rows += _activity_rows(done, found)
    return pd.DataFrame(rows, columns=COLUMNS)


def _accuracy_rows(deployed: Deployment, accuracies: pd.DataFrame) -> list[dict]:
    rows = [
        _row(f"accuracy_{row.runs_as}_{{trained}}_{{task}}", row.accuracy,
             trained=_name(row.trained), task=row.task, images=row.images)
        for row in accuracies.itertuples()
    ]  # fmt: skip
    rows.append(_row("train_images", deployed.trial.train_images, seed=deployed.trial.seed))
    images = accuracies.groupby("task")["images"].first().sum()
    means = accuracies.groupby(["trained", "runs_as"])["accuracy"].mean()
    for trained in accuracies["trained"].unique():
        loss = 100 * (means[trained, "float"] - means[trained, "integers"])
        rows.append(_row("accuracy_loss_{trained}", loss, trained=_name(trained), images=images))
    best = 100 * (means[:, "float"].max() - means["chip-aware", "integers"])
    return [*rows, _row("accuracy_loss_deployed", best, images=images)]


def _core_rows(measured: Measured) -> list[dict]:
    placed, spread = measured.placed, place(measured.deployed, spread=2)
    rows = [
        *_share_rows(placed, ""),
        _row("memory_per_core_bytes", 1e3 * placed.table()["memory_kb"].max()),
        *_share_rows(spread, "_spread"),
    ]
    published = place_published(measured.deployed)
    if published is not None:
        rows += _share_rows(published, "_with_dense")
    return [*rows, _row("weight_bits", measured.deployed.net.weight_bits)]


def _share_rows(placed: Mapping, how: str) -> list[dict]:
    least = placed.bare / placed.available
    return [
        _row(f"cores{how}", placed.cores, placed.bare, placed.cores),
        _row(f"core_share{how}", placed.share, least, placed.share),
    ]


def _activity_rows(done: Activity, found: Estimate) -> list[dict]:
    told = {"task": done.task, "samples": done.samples}
    parts = {"dynamic_energy": found.dynamic, "total_energy": found.total, "latency": found.latency}
    energies = found.layers[["traffic_energy", "energy"]].sum()
    return [
        _row("spikes_{task}", sum(done.spikes.values()) / done.samples, **told),
        _row("synops_{task}", sum(done.synops.values()) / done.samples, **told),
        _row("input_messages_{task}", done.messages / done.samples, **told),
        *(_row(f"{name}_{{task}}", part.middle, part.low, part.high, **told)
          for name, part in parts.items()),
        _row("traffic_share_{task}", energies["traffic_energy"] / energies["energy"], **told),
        _row("real_time_{task}", done.steps * 1e-3, **told),
    ]  # fmt: skip


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """``table_loihi`` with its numbers as text of six digits: they range from 1e-12 to 1e12."""
    return _as_text(table, ("value", "low", "high"))


def searched(found: pd.DataFrame) -> pd.DataFrame:
    """``table_loihi_search``: what :func:`ltgate.loihi.search.search` gave, energies as text."""
    return _as_text(found, ("joules", "seconds"))


def _as_text(table: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    return table.assign(**{name: table[name].map("{:.6g}".format) for name in columns})


@functools.cache
def texts() -> pd.DataFrame:
    """``chip_table.csv``: unit, kind and source of every metric."""
    path = Path(__file__).with_suffix(".csv")
    return pd.read_csv(path, dtype=str, index_col="metric")


def _row(metric: str, value: float, low: float | None = None, high: float | None = None,
         **told: object) -> dict:  # fmt: skip
    """A row of the table; ``told`` fills the fields of the metric's name and source."""
    text, value = texts().loc[metric], float(value)
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"  # what is timed hangs on it
    told |= {"load": load, "threads": f"{torch.get_num_threads()} threads, {load}"}
    if "repeats" in told:
        told["repeats"] = f"median and range of {told['repeats']}, {load}"
    return {
        "metric": metric.format_map(told), "value": value,
        "low": value if low is None else float(low), "high": value if high is None else float(high),
        "unit": text["unit"], "kind": text["kind"], "source": text["source"].format_map(told),
    }  # fmt: skip


def _median(metric: str, values: list[float], **told: object) -> dict:
    return _row(metric, np.median(values), min(values), max(values), repeats=len(values), **told)


def _name(words: str) -> str:
    return words.replace(":", "").replace(",", "").replace(" ", "_").replace("-", "_")
