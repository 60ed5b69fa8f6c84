"""Frames for the figures, and ``table_loihi``: every number with its kind and source."""

import os
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ltgate.loihi import deploy, exact, lava_backend, learning, mapping
from ltgate.loihi.deploy import Activity, Deployment
from ltgate.loihi.estimate import Estimate, estimate
from ltgate.loihi.mapping import Mapping
from ltgate.params import Params

COLUMNS = ["metric", "value", "low", "high", "unit", "kind", "source"]
TWIN = "integer twin on this machine"
LAVA = "Lava 0.10 simulator on this machine"
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


def place_published(deployed: Deployment) -> Mapping:
    """All layers, with the dense ones that no readout here sees, and a readout on the last one."""
    network, bits = deployed.learner.network, deployed.net.weight_bits
    layers = mapping.layer_shapes(network.layers, network.dynamics.compartments, bits)
    last = network.layers[-1]
    return mapping.place(
        layers + mapping.readout_shapes({last.name: last.neurons}, deployed.learner.classes)
    )


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
    seconds = time.perf_counter() - start
    quantising = [deploy.deploy(deployed.trial).seconds for _ in range(repeats)]
    return [
        _row("twin_seconds_per_sample", seconds / done.samples, "s", "measured",
             f"{TWIN}, {done.samples} samples of the {done.task} task, {_threads()}"),
        _row("twin_seconds_per_1000", 1000 * seconds / done.samples, "s", "measured",
             f"{TWIN}, from {done.samples} samples, {_threads()}"),
        _median("quantise_seconds", quantising, "s", "this machine, compiled code loaded"),
    ]  # fmt: skip


def lava_rows(
    deployed: Deployment, samples: int, compared: exact.Compared | None, repeats: int
) -> list[dict]:
    """Build, run and memory of Lava, and its agreement with the twin."""
    if not lava_backend.available():
        return []
    found = exact.timing(deployed, 0, samples)
    where = f"{LAVA}, {found['samples']} samples of the first task, {_threads()}"
    layers = exact.build_per_layer(deployed, repeats)
    built, few = found["build_seconds"], min(samples, 10)
    rows = [
        _row("lava_build_seconds", found["build_seconds"], "s", "measured", where),
        _row("lava_peak_bytes", found["peak_bytes"], "B", "measured",
             where + "; all processes at the end of the run, with this one"),
        _row("lava_seconds_per_sample", found["run_seconds"] / found["samples"], "s",
             "measured", where),
        _row("lava_seconds_per_100", 100 * found["run_seconds"] / found["samples"], "s",
             "measured", where),
        _median("lava_batch_speedup", exact.batch_speedups(deployed, repeats, few), "1",
                f"{LAVA}, {few} samples side by side against one after the other"),
        _row("setup_seconds", deploy.deploy(deployed.trial).seconds + built,
             "s", "measured", f"quantising (compiled code loaded) and building in Lava, {_load()}"),
        _median("lava_build_seconds_per_layer", layers, "s",
                f"{LAVA}, line fitted over the depths of this network"),
        _median("lava_build_share_per_layer", [seconds / built for seconds in layers], "1",
                "lava_build_seconds_per_layer over lava_build_seconds"),
    ]  # fmt: skip
    if compared is not None:
        for task, part in compared.table.groupby("task", sort=False):
            rows.append(
                _row(f"lava_differing_spikes_{task}", part["differing"].sum(), "1", "exact",
                     f"Lava against the twin, {part['samples'].max()} samples, every layer and "
                     f"step, {part['spikes'].sum()} spikes")
            )  # fmt: skip
    return rows


def learning_rows(learned: learning.Compared) -> list[dict]:
    """Accuracy of the chip's and the library's rule when all is learned, and their weights."""
    last = learned.curves[learned.curves["samples"] == learned.curves["samples"].max()]
    rows = [
        _row(f"learned_accuracy_{_name(row.rule)}_{row.task}", row.accuracy, "1", "exact",
             f"validation images, after {row.samples} samples of all tasks in their order")
        for row in last.itertuples()
    ]  # fmt: skip
    return [
        *rows,
        _row("learned_weights_cosine", learned.cosine, "1", "exact",
             "chip rule's weights with those of the library's delta rule, mean over classes"),
    ]  # fmt: skip


def search_rows(found: pd.DataFrame, chosen: dict[str, object], params: Params) -> list[dict]:
    """What the energy-aware choice saves against the parameters as they are, and loses.

    Against the most accurate point if the search did not try them.
    """
    point = _point(found, chosen)
    base = _point(found, {name: getattr(params, name) for name in chosen})
    if base is None:
        base = found.sort_values(["accuracy", "joules"], ascending=[False, True]).iloc[0]
    against = ", ".join(f"{name} {base[name]}" for name in chosen)
    source = f"search on validation images, dynamic energy by counts, against {against}"
    return [
        _row("search_energy_saved", 1 - point["joules"] / base["joules"], "1", "estimate", source),
        _row("search_accuracy_lost", 100 * (base["accuracy"] - point["accuracy"]), "points",
             "exact", source),
    ]  # fmt: skip


def _point(found: pd.DataFrame, values: dict[str, object]) -> pd.Series | None:
    rows = found[(found[list(values)] == pd.Series(values)).all(axis=1)]
    return rows.iloc[0] if len(rows) else None


def table(measured: Measured, accuracies: pd.DataFrame, more: list[dict]) -> pd.DataFrame:
    """``table_loihi``: metric, value, low, high, unit, kind, source."""
    rows = []
    for row in accuracies.itertuples():
        name = f"accuracy_{row.runs_as}_{_name(row.trained)}_{row.task}"
        kind = "8-bit integers on the twin" if row.runs_as == "integers" else "float32 network"
        rows.append(
            _row(name, row.accuracy, "1", "exact", f"{row.images} test images, pulse, {kind}")
        )
    of = measured.deployed.trial
    rows.append(
        _row("train_images", of.train_images, "1", "exact",
             f"of all tasks; this network, seed {of.seed}")
    )  # fmt: skip
    images = accuracies.groupby("task")["images"].first().sum()
    means = accuracies.groupby(["trained", "runs_as"])["accuracy"].mean()
    for trained in accuracies["trained"].unique():
        loss = 100 * (means[trained, "float"] - means[trained, "integers"])
        rows.append(_row(f"accuracy_loss_{_name(trained)}", loss, "points", "exact",
                         f"float minus integers, mean of tasks, {images} images"))  # fmt: skip
    best = 100 * (means[:, "float"].max() - means["chip-aware", "integers"])
    rows.append(_row("accuracy_loss_deployed", best, "points", "exact",
                     f"best float minus chip-aware integers, {images} images"))  # fmt: skip
    rows += more
    placed = measured.placed
    full, spread = placed.table(), place(measured.deployed, spread=2)
    rule = "core rules fitted to PilotNet (ltgate/loihi/mapping.py)"
    rows += [
        _row("cores", placed.cores, "1", "estimate", rule, placed.bare, placed.cores),
        _row("core_share", placed.share, "1", "estimate", rule, placed.bare / placed.available,
             placed.share),
        _row("memory_per_core_bytes", 1e3 * full["memory_kb"].max(), "B", "estimate",
             f"{rule}; fullest core, synapses and membranes"),
        _row("cores_spread", spread.cores, "1", "estimate",
             f"{rule}; every convolution on twice the cores", spread.bare, spread.cores),
        _row("core_share_spread", spread.share, "1", "estimate",
             f"{rule}; every convolution on twice the cores", spread.bare / spread.available,
             spread.share),
        *_published(measured.deployed, rule),
        _row("weight_bits", measured.deployed.net.weight_bits, "bit", "exact", "this deployment"),
    ]  # fmt: skip
    for done, found in zip(measured.done, measured.estimates, strict=True):
        counted = f"counted by the twin on {done.samples} test images"
        synops = sum(done.synops.values()) / done.samples
        rows += [
            _row(f"spikes_{done.task}", sum(done.spikes.values()) / done.samples, "1", "exact",
                 counted),
            _row(f"synops_{done.task}", synops, "1", "exact", counted),
            _row(f"input_messages_{done.task}", done.messages / done.samples, "1", "exact",
                 counted),
        ]  # fmt: skip
        for name, part, unit in (
            ("dynamic_energy", found.dynamic, "J"),
            ("total_energy", found.total, "J"),
            ("latency", found.latency, "s"),
        ):
            rows.append(
                _row(f"{name}_{done.task}", part.middle, unit, "estimate",
                     "ltgate/loihi/estimate.py, constants.csv; value = geometric middle",
                     part.low, part.high)
            )  # fmt: skip
        energies = found.layers[["traffic_energy", "energy"]].sum()
        rows.append(
            _row(f"traffic_share_{done.task}", energies["traffic_energy"] / energies["energy"],
                 "1", "estimate", "ltgate/loihi/estimate.py, by counts")
        )  # fmt: skip
        rows.append(
            _row(f"real_time_{done.task}", done.steps * 1e-3, "s", "exact",
                 "steps of 1 ms, as the frames come")
        )  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """``table_loihi`` with its numbers as text of six digits: they range from 1e-12 to 1e12."""
    return _as_text(table, ("value", "low", "high"))


def searched(found: pd.DataFrame) -> pd.DataFrame:
    """``table_loihi_search``: what :func:`ltgate.loihi.search.search` gave, energies as text."""
    return _as_text(found, ("joules", "seconds"))


def _as_text(table: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    return table.assign(**{name: table[name].map("{:.6g}".format) for name in columns})


def _row(metric, value, unit, kind, source, low=None, high=None) -> dict:
    value = float(value)
    return {
        "metric": metric, "value": value, "low": value if low is None else float(low),
        "high": value if high is None else float(high), "unit": unit, "kind": kind,
        "source": source,
    }  # fmt: skip


def _median(metric: str, values: list[float], unit: str, source: str) -> dict:
    source = f"{source}; median and range of {len(values)}, {_load()}"
    return _row(metric, np.median(values), unit, "measured", source, min(values), max(values))


def _published(deployed: Deployment, rule: str) -> list[dict]:
    try:
        placed = place_published(deployed)
    except mapping.DoesNotFit:
        return []
    source = f"{rule}; with the dense layers, which no readout here sees"
    return [
        _row("cores_with_dense", placed.cores, "1", "estimate", source, placed.bare, placed.cores),
        _row("core_share_with_dense", placed.share, "1", "estimate", source,
             placed.bare / placed.available, placed.share),
    ]  # fmt: skip


def _name(words: str) -> str:
    return words.replace(":", "").replace(",", "").replace(" ", "_").replace("-", "_")


def _threads() -> str:
    import torch

    return f"{torch.get_num_threads()} threads, {_load()}"


def _load() -> str:
    """How busy the machine is, with this process: what is timed there depends on it."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
