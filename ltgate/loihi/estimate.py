r"""Energy and latency of a sample: an **estimate**, as a range, from counted work.

Nothing here was measured on a chip. Counted exactly (by the twin): spikes, synaptic operations,
neuron updates, steps. Every constant is in ``constants.csv`` with unit, source and basis. For no
Loihi 2 has an energy per synaptic operation been published, so two ways are taken::

    counts   dynamic energy = sum of counts x Loihi-1 constants (simulated), with every update
             inactive, and with every update active
    scaled   dynamic energy = compartment updates / 2 x PilotNet's measured dynamic energy per
             neuron and step (a neuron of PilotNet has two states, as two of our compartments)

``low`` and ``high`` are the smallest and the largest of the three; the totals add the measured
static power for the low and high latency. Latency: ``low`` is the busiest core's updates and
synaptic operations per step at Loihi-1 times over Intel's speed-ups, at least the shortest step;
``high`` is PilotNet's measured step. In real time a step takes 1 ms, as the frames come.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ltgate.loihi.deploy import Activity
from ltgate.loihi.mapping import Mapping, pilotnet
from ltgate.loihi.quantnet import QuantNetwork

_STATES = 2  # of a neuron of PilotNet: current and voltage; ours has one a compartment
_REACHED = 2  # cores that one position of a convolution's input reaches: columns lie side by side


class Range(NamedTuple):
    """Low and high end, in SI units."""

    low: float
    high: float


class Estimate(NamedTuple):
    """One sample of a task.

    Attributes:
        task: Its name.
        dynamic, total: Energy in J.
        latency: In s, as fast as the chip could step.
        layers: A row per layer: counts per sample, energy by ``counts`` (active) in J, time of its
            cores in a step in s.
    """

    task: str
    dynamic: Range
    total: Range
    latency: Range
    layers: pd.DataFrame


def constants() -> pd.DataFrame:
    """The table of constants: name, value, unit, basis (simulated, measured, vendor), source."""
    return pd.read_csv(Path(__file__).parent / "constants.csv")


def values() -> dict[str, float]:
    """Constant by name."""
    return constants().set_index("name")["value"].to_dict()


def estimate(net: QuantNetwork, done: Activity, mapping: Mapping) -> Estimate:
    """Energy and latency of one of the task's samples."""
    k = values()
    cores = {part.layer: part.cores for part in mapping.placed}
    hop = k["tile_energy"] + k["hops"] * k["hop_energy"]
    rows, arriving = [], done.messages / done.samples
    for layer in net.layers:
        updates = layer.neurons * net.compartments * done.steps
        synops = done.synops[layer.name] / done.samples
        spikes = done.spikes[layer.name] / done.samples
        reached = min(cores[layer.name], _REACHED if layer.is_conv else cores[layer.name])
        parts = {
            "synops_energy": synops * k["synop_energy"],
            "updates_energy": updates * k["update_active_energy"],
            "traffic_energy": arriving * reached * hop,
        }
        updating = updates * k["update_time"] / k["update_speedup"]
        adding = synops * k["synop_time"] / k["synop_speedup"]
        step = (updating + adding) / done.steps / cores[layer.name]
        rows.append(
            {
                "task": done.task, "layer": layer.name, "spikes": spikes, "synops": synops,
                "updates": updates, **parts, "energy": sum(parts.values()), "step_seconds": step,
            }
        )  # fmt: skip
        arriving = spikes
    table = pd.DataFrame(rows)
    updates, active = float(table["updates"].sum()), float(table["energy"].sum())
    inactive = active - updates * (k["update_active_energy"] - k["update_inactive_energy"])
    per_neuron_step = k["pilotnet_dynamic_energy"] / k["pilotnet_neurons"] / k["pilotnet_steps"]
    low, _, high = sorted([inactive, active, updates / _STATES * per_neuron_step])
    fastest = max(table["step_seconds"].max() + k["barrier_time"], k["shortest_step"])
    latency = Range(*(done.steps * step for step in sorted([fastest, k["pilotnet_step_time"]])))
    static = k["pilotnet_static_power"]
    total = Range(low + static * latency.low, high + static * latency.high)
    return Estimate(done.task, Range(low, high), total, latency, table)


def check_on_pilotnet() -> pd.DataFrame:
    """The same arithmetic on PilotNet, whose energy and time were measured.

    Its spikes are not published, so synaptic operations are left out: ``counts`` is a lower bound
    there and must lie below the measurement.
    """
    k, layers = values(), pilotnet()
    neurons = sum(shape.neurons for shape, _ in layers)
    fullest = max(shape.neurons / cores for shape, cores in layers)
    busiest = fullest * k["update_time"] / k["update_speedup"]
    steps = k["pilotnet_steps"]
    rows = [
        ("neurons", neurons, k["pilotnet_neurons"], "1"),
        ("dynamic energy per step, updates alone", neurons * k["update_inactive_energy"],
         k["pilotnet_dynamic_energy"] / steps, "J"),
        ("time per step, updates alone", busiest + k["barrier_time"],
         k["pilotnet_step_time"], "s"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["quantity", "estimate", "published", "unit"])
    table["ratio"] = table["estimate"] / table["published"]
    return table
