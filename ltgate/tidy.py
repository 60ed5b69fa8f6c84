"""Tidy frames for the figures and tables, from tasks, learners and result rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ltgate import figures, neurons
from ltgate.backends import portable
from ltgate.data.store import open_task
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.methods.base import SpikingLearner
from ltgate.neurons import Dynamics
from ltgate.params import Params
from ltgate.train import Trial

COMPARTMENTS = {"dual": ("fast", "slow"), "fast": ("fast",), "slow": ("slow",)}


def samples(params: Params, number: int = 5) -> pd.DataFrame:
    """The first training images of every task and when their frames come."""
    rows = []
    for task in params.tasks:
        images = open_task(params, task, "train", params.seeds[0])
        steps = schedule(task, params.presentation)
        times = np.arange(len(steps)) * steps.dt_ms
        shown = zip(images.images[:number], images.labels[:number], strict=True)
        for image, label in shown:
            rows.append((task.name, int(label), image, times, steps.drive))
    return pd.DataFrame(rows, columns=["task", "label", "image", "time_ms", "drive"])


def splits(params: Params) -> pd.DataFrame:
    """``table_data``: one row per task and split; test images are not opened here."""
    rows = []
    for task in params.tasks:
        for split in ("train", "validation"):
            images = open_task(params, task, split, params.seeds[0])
            steps = schedule(task, params.presentation)
            rows.append(
                {
                    "task": task.name,
                    "split": split,
                    "classes": " ".join(map(str, task.classes)),
                    "images": len(images),
                    "fewest_in_a_class": int(pd.Series(images.labels).value_counts().min()),
                    "frame_rate_hz": task.frame_rate_hz,
                    "duration_ms": task.duration_ms,
                    "steps": len(steps),
                    "dt_ms": steps.dt_ms,
                    "pixel_mean": float(images.images[:].mean() / 256),
                }
            )
    return pd.DataFrame(rows)


def membranes(
    learner: SpikingLearner,
    trial: Trial,
    tasks: Sequence[TaskSpec] | None = None,
    dynamics: Dynamics | None = None,
) -> pd.DataFrame:
    """Both compartments of one first-layer neuron, shown one image at every task's frame rate.

    The image is the first task's first training image. The neuron is the median one, by its weaker
    compartment's current, of those whose compartments are both driven. Other ``tasks`` than the
    trial's and other ``dynamics`` than the network's may be tried on it.
    """
    layer, dynamics = learner.network.layers[0], dynamics or learner.network.dynamics
    pixels = learner.network.pixels(trial.open(0, "train").images[:1])
    currents = portable.currents(layer, pixels).cpu()[0]
    weaker = currents.amin(0)
    chosen = weaker == (weaker[weaker > 0].median() if (weaker > 0).any() else weaker.max())
    channel, row, column = chosen.nonzero()[0].tolist()
    threshold = layer.threshold[:, channel].cpu()
    frames = []
    for task in tasks or trial.tasks:
        steps = schedule(task, trial.params.presentation)
        trace = neurons.scan(
            torch.from_numpy(steps.drive)[:, None] * currents[:, channel, row, column],
            torch.zeros(dynamics.compartments),
            decay=torch.from_numpy(dynamics.decay(steps.dt_ms)),
            gain=torch.from_numpy(dynamics.gain(steps.charge_ms)),
            threshold=threshold,
            gate=layer.forward_gate[channel].cpu(),
            output=dynamics.output,
            reset=dynamics.reset,
        )
        for index, name in enumerate(COMPARTMENTS[trial.params.compartments]):
            values = {
                "task": task.name,
                "compartment": name,
                "time_ms": np.arange(len(steps)) * steps.dt_ms,
                "membrane": trace.membrane[:, index].numpy(),
                "threshold": float(threshold[min(index, len(threshold) - 1)]),
                "spike": trace.crossed[:, index].numpy(),
            }
            frames.append(pd.DataFrame(values))
    return pd.concat(frames, ignore_index=True)


def rates_and_gates(learner: SpikingLearner, trial: Trial, number: int = 256) -> pd.DataFrame:
    """Crossings per neuron and step of each compartment, and gates, on validation images."""
    names = COMPARTMENTS[trial.params.compartments]
    gates = {layer.name: float(layer.gate.mean()) for layer in learner.network.layers}
    rows = []
    for position, task in enumerate(trial.tasks):
        for layer, rates in learner.rates(trial.open(position, "validation"), number).items():
            for index, name in enumerate(names):
                share = gates[layer] if name == "fast" else 1 - gates[layer]
                rows.append((layer, f"{task.name} task", name, rates[index], share))
    return pd.DataFrame(rows, columns=["layer", "when", "compartment", "rate", "gate"])


def r_entries(rows: pd.DataFrame, scenario: str = "class", cue: str = "yes") -> pd.DataFrame:
    """Entries of R on the test images: method, seed, step, task, accuracy."""
    chosen = rows[
        (rows["metric"] == "accuracy") & (rows["scenario"] == scenario) & (rows["cue"] == cue)
    ]
    columns = ["method", "seed", "step", "task", "accuracy"]
    return chosen.rename(columns={"value": "accuracy"})[columns].reset_index(drop=True)


def plot(rows: pd.DataFrame, scenario: str = "class", cue: str = "yes") -> Figure:
    """Matrix R of every method in result rows, drawn: :func:`ltgate.figures.r_heatmap`."""
    return figures.r_heatmap(r_entries(rows, scenario, cue))


def headline(table: pd.DataFrame, scenario: str = "class") -> pd.DataFrame:
    """``table_main`` in one row per method: what README.md and notebook 3 show.

    ACC and forgetting in percent and points, mean with the half width of the 95 % interval over
    seeds, with the timescale cue and without it (control); how often the task is told right; spikes
    of all layers per image (with the cue); seeds (of the control, where it has others); megabytes
    of learner state.
    """
    chosen = table[table["scenario"] == scenario].set_index(["method", "cue", "metric"])
    return pd.DataFrame([_headline(chosen, m) for m in chosen.index.unique("method")])


def _headline(table: pd.DataFrame, method: str) -> dict[str, str]:
    """One row of :func:`headline`; ``table`` by method, cue and metric."""

    def found(cue: str, metric: str) -> pd.Series | None:
        place = (method, cue, metric)
        return table.loc[place] if place in table.index else None

    def percent(cue: str, metric: str) -> str:
        row = found(cue, metric)
        if row is None:
            return ""
        half = (row["ci_high"] - row["ci_low"]) / 2
        return f"{100 * row['mean']:.2f}" + (f" ± {100 * half:.2f}" if half == half else "")

    told = {cue: found(cue, "task_told") for cue in ("yes", "no")}
    told = {c: "" if row is None else f"{100 * row['mean']:.1f}" for c, row in told.items()}
    seeds = {cue: found(cue, "acc") for cue in ("yes", "no")}
    seeds = {c: 0 if row is None else int(row["seeds"]) for c, row in seeds.items()}
    control = f" ({seeds['no']})" * (seeds["no"] not in (0, seeds["yes"]))
    spikes = found("yes", "spikes_per_sample")
    state = [row["mean"] for c in told if (row := found(c, "state_bytes")) is not None]
    return {
        "method": method,
        "ACC, %": percent("yes", "acc"),
        "forgetting, points": percent("yes", "forgetting"),
        "control: ACC, %": percent("no", "acc"),
        "control: forgetting, points": percent("no", "forgetting"),
        "task told, % (control)": told["yes"] + f" ({told['no']})" * bool(told["no"]),
        "spikes": "" if spikes is None else f"{spikes['mean']:,.0f}",
        "seeds": f"{seeds['yes']}{control}",
        "state, MB": f"{max(state, default=float('nan')) / 1e6:.1f}",
    }
