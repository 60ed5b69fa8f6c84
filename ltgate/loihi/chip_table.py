"""Frames for the figures, and ``table_loihi``: every number with its kind and source.

``chip_table.csv`` has a row per metric: its name, unit, kind and source, with fields in braces that
the code here fills, as it does the number.
"""

import contextlib
import functools
import os
import re
import time
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

GRID_COLUMNS = 16
TEXTS = pd.read_csv(Path(__file__).with_suffix(".csv"), dtype=str, index_col="metric")


class Sizes(NamedTuple):
    """How much notebook 5 runs.

    Samples of each task that are compared spike by spike in Lava, that are timed in ``lava`` and on
    the ``twin``, and that the chip's rule learns; points of the search (``rates``, ``bits``) and
    training ``images`` of each task there; ``repeats`` of what has a median and a range.
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
QUICK = Sizes(4, 10, 200, (0.02, 0.05), (8,), 200, 40, 1)
FULL = Sizes(20, 100, 1000, (0.01, 0.02, 0.05), (4, 8), 500, 600, 3)


def sizes(params: Params) -> Sizes:
    """``SMOKE`` for a handful of training images, ``QUICK`` for 5,000 in all, else ``FULL``."""
    if 0 < params.train_images <= 100:
        return SMOKE
    return QUICK if deploy.trial(params).train_images <= 5000 else FULL


class Measured(NamedTuple):
    """Everything measured on one deployment: the test sets on the twin, cores, estimates."""

    deployed: Deployment
    done: list[Activity]
    placed: Mapping
    estimates: list[Estimate]


def measure(deployed: Deployment) -> Measured:
    """Run the whole test set of every task on the twin; map; estimate."""
    done = [deploy.evaluate(deployed, i) for i in range(len(deployed.trial.tasks))]
    placed = place(deployed)
    return Measured(deployed, done, placed, [estimate(deployed.net, d, placed) for d in done])


def place(deployed: Deployment, spread: int = 0) -> Mapping:
    """The network and its readout on cores; ``spread`` 0: as the parameter ``chip_spread`` says."""
    sizes = {view.name: len(view.weight) for view in deployed.readout.views}
    read = mapping.readout_shapes(sizes, deployed.learner.classes)
    layers = mapping.shapes(deployed.net, deployed.net.weight_bits)
    return mapping.place(layers + read, spread or deployed.trial.params.chip_spread)


def cores(placed: Mapping) -> pd.DataFrame:
    """The grid of cores for :func:`ltgate.figures.loihi_cores`, filled layer by layer."""
    owners = [
        (part.layer, min(1.0, max(neurons / mapping.NEURONS, part.words / mapping.WORDS)))
        for part in placed.placed
        for neurons in np.minimum(part.total - part.neurons * np.arange(part.cores), part.neurons)
    ]
    owners += [("margin", 0.0)] * (placed.cores - placed.bare)
    owners += [("", 0.0)] * (mapping.CORES - len(owners))
    grid = pd.DataFrame(owners, columns=["layer", "used"]).rename_axis("core").reset_index()
    row, column = np.divmod(grid["core"], GRID_COLUMNS)
    return grid.assign(row=row, column=column)[["core", "row", "column", "layer", "used"]]


def energy(measured: Measured) -> pd.DataFrame:
    """For :func:`ltgate.figures.loihi_energy`."""
    layers = pd.concat([e.layers for e in measured.estimates])
    parts = [c for c in layers if c.endswith("_energy")]
    table = layers.melt(["task", "layer"], parts, "part", "joules")
    return table.assign(part=table["part"].str.removesuffix("_energy"))


def ranges(measured: Measured) -> pd.DataFrame:
    """For :func:`ltgate.figures.loihi_ranges`."""
    rows = [
        (quantity, e.task, *getattr(e, quantity.split()[0]))
        for quantity in ("dynamic energy", "total energy", "latency")
        for e in measured.estimates
    ]
    return pd.DataFrame(rows, columns=["quantity", "task", "low", "high"])


def twin_rows(deployed: Deployment, samples: int, repeats: int) -> list[dict]:
    """Wall time of ``samples`` validation samples of the first task on the twin."""
    deploy.evaluate(deployed, 0, "validation", limit=2)  # compiled and loaded
    start = time.perf_counter()
    done = deploy.evaluate(deployed, 0, "validation", limit=samples)
    seconds = (time.perf_counter() - start) / done.samples
    values = {
        "twin_seconds_per_sample": seconds,
        "twin_seconds_per_1000": 1000 * seconds,
        "quantise_seconds": [deploy.deploy(deployed.trial).seconds for _ in range(repeats)],
    }
    return _rows(values, samples=done.samples, task=done.task)


def lava_rows(
    deployed: Deployment, samples: int, compared: pd.DataFrame | None, repeats: int
) -> list[dict]:
    """Build, run and memory of Lava, and its agreement with the twin (``lava_check.compare``)."""
    if not lava_backend.available():
        return []
    timed = functools.partial(lava_check.run, deployed, 0, raster=deployed.net.names[-1:])
    found = timed(samples, batch=10)
    number, few = next(iter(found.counts.values())).shape[0], min(samples, 10)
    built, seconds = found.build_seconds, found.run_seconds / number
    values = {
        "lava_build_seconds": built,
        "lava_peak_bytes": found.peak_bytes,
        "lava_seconds_per_sample": seconds,
        "lava_seconds_per_100": 100 * seconds,
    }
    alone_over_together = [
        np.divide(*(timed(few, batch=batch).run_seconds for batch in (1, few)))
        for _ in range(repeats)
    ]
    layers = lava_check.build_per_layer(deployed, repeats)
    building = {
        "setup_seconds": deploy.deploy(deployed.trial).seconds + built,
        "lava_build_seconds_per_layer": layers,
        "lava_build_share_per_layer": [more / built for more in layers],
    }
    rows = _rows(values, samples=number)
    rows += _rows({"lava_batch_speedup": alone_over_together}, samples=few) + _rows(building)
    if compared is not None:
        for task, part in compared.groupby("task", sort=False):
            told = {"samples": part["samples"].max(), "spikes": part["spikes"].sum()}
            differing = {"lava_differing_spikes_{task}": part["differing"].sum()}
            rows += _rows(differing, task=task, **told)
    return rows


def learning_rows(learned: learning.Compared) -> list[dict]:
    """Accuracy of the chip's and the library's rule when all is learned, and their weights."""
    rows: list[dict] = []
    last = learned.curves[learned.curves["samples"] == learned.curves["samples"].max()]
    for row in last.itertuples():
        told = {"rule": _name(row.rule), "task": row.task, "samples": row.samples}
        rows += _rows({"learned_accuracy_{rule}_{task}": row.accuracy}, **told)
    return rows + _rows({"learned_weights_cosine": learned.cosine})


def search_rows(found: pd.DataFrame, chosen: dict[str, object], params: Params) -> list[dict]:
    """What the energy-aware choice saves against the parameters as they are, and loses.

    Against the most accurate point if the search did not try them.
    """

    def points(values: dict[str, object]) -> pd.DataFrame:
        return found[(found[list(values)] == pd.Series(values)).all(axis=1)]

    point = points(chosen).iloc[0]
    bases = points({name: getattr(params, name) for name in chosen})
    best = found.sort_values(["accuracy", "joules"], ascending=[False, True])
    base = (bases if len(bases) else best).iloc[0]
    values = {
        "search_energy_saved": 1 - point["joules"] / base["joules"],
        "search_accuracy_lost": 100 * (base["accuracy"] - point["accuracy"]),
    }
    return _rows(values, against=", ".join(f"{name} {base[name]}" for name in chosen))


def table(measured: Measured, accuracies: pd.DataFrame, more: list[dict]) -> pd.DataFrame:
    """``table_loihi``: metric, value, low, high, unit, kind, source."""
    rows = _accuracy_rows(measured.deployed, accuracies) + more + _core_rows(measured)
    for done, found in zip(measured.done, measured.estimates, strict=True):
        rows += _activity_rows(done, found)
    return pd.DataFrame(rows)


def _accuracy_rows(deployed: Deployment, accuracies: pd.DataFrame) -> list[dict]:
    rows: list[dict] = []
    for row in accuracies.itertuples():
        told = {"trained": _name(row.trained), "task": row.task, "images": row.images}
        rows += _rows({f"accuracy_{row.runs_as}_{{trained}}_{{task}}": row.accuracy}, **told)
    rows += _rows({"train_images": deployed.trial.train_images}, seed=deployed.trial.seed)
    images = accuracies.groupby("task")["images"].first().sum()
    means = accuracies.groupby(["trained", "runs_as"])["accuracy"].mean()
    for trained in accuracies["trained"].unique():
        loss = 100 * (means[trained, "float"] - means[trained, "integers"])
        rows += _rows({"accuracy_loss_{trained}": loss}, trained=_name(trained), images=images)
    best = 100 * (means[:, "float"].max() - means["chip-aware", "integers"])
    return rows + _rows({"accuracy_loss_deployed": best}, images=images)


def _core_rows(measured: Measured) -> list[dict]:
    deployed, learner = measured.deployed, measured.deployed.learner
    ways = {"": measured.placed, "_spread": place(deployed, spread=2)}
    last = learner.network.layers[-1]  # with the dense layers, which no readout here sees
    read = mapping.readout_shapes({last.name: last.neurons}, learner.classes)
    with contextlib.suppress(mapping.DoesNotFit):
        every = mapping.shapes(learner.network, deployed.net.weight_bits)
        ways["_with_dense"] = mapping.place(every + read)
    values: dict[str, tuple | float] = {}
    for how, placed in ways.items():
        values[f"cores{how}"] = placed.cores, placed.bare, placed.cores
        shares = (number / mapping.CORES for number in values[f"cores{how}"])
        values[f"core_share{how}"] = tuple(shares)
        if not how:
            values["memory_per_core_bytes"] = 1e3 * placed.table()["memory_kb"].max()
    return _rows({**values, "weight_bits": deployed.net.weight_bits})


def _activity_rows(done: Activity, found: Estimate) -> list[dict]:
    values = {
        "spikes_{task}": sum(done.spikes.values()) / done.samples,
        "synops_{task}": sum(done.synops.values()) / done.samples,
        "input_messages_{task}": done.messages / done.samples,
    }
    parts = {"dynamic_energy": found.dynamic, "total_energy": found.total, "latency": found.latency}
    for name, (low, high) in parts.items():
        values[f"{name}_{{task}}"] = (low * high) ** 0.5, low, high
    energies = found.layers[["traffic_energy", "energy"]].sum()
    values["traffic_share_{task}"] = energies["traffic_energy"] / energies["energy"]
    values["real_time_{task}"] = done.steps * 1e-3
    return _rows(values, task=done.task, samples=done.samples)


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers from 1e-12 to 1e12 as text of six digits: of ``table_loihi`` and of the search."""
    columns = [name for name in ("value", "low", "high", "joules", "seconds") if name in table]
    return table.assign(**{name: table[name].map("{:.6g}".format) for name in columns})


def _rows(values: dict[str, float | tuple | list], **told: object) -> list[dict]:
    """Rows of the table; ``told`` fills the fields of the metrics' names and sources.

    A value comes alone, with its range (a tuple: value, low, high), or as repeats (a list), of
    which the row has median and range.
    """
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"  # what is timed hangs on it
    told |= {"load": load, "threads": f"{torch.get_num_threads()} threads, {load}"}
    rows = []
    for metric, value in values.items():
        if isinstance(value, list):
            told["repeats"] = f"median and range of {len(value)}, {load}"
            value = np.median(value), min(value), max(value)
        value, low, high = value if isinstance(value, tuple) else (value,) * 3
        unit, kind, source = TEXTS.loc[metric]
        rows.append(
            {
                "metric": metric.format_map(told), "value": float(value), "low": float(low),
                "high": float(high), "unit": unit, "kind": kind, "source": source.format_map(told),
            }
        )  # fmt: skip
    return rows


def _name(words: str) -> str:
    return "_".join(re.findall(r"\w+", words))
