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


def compartments(params: Params) -> tuple[str, ...]:
    """Names of a learner's compartments: fast and slow, or the time constants that it was given."""
    if len(params.taus_ms) in (0, 2):
        return COMPARTMENTS[params.compartments]
    return tuple(f"{tau:g} ms" for tau in params.taus_ms)


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

    The image, or stream, is the first task's first training one. The neuron is that whose slow
    compartment crosses its threshold most often beyond the fast one where steps are longest; of one
    compartment, that which crosses most. Those come first whose compartments all cross somewhere,
    and in a quarter of the steps at most: one that fires in every step shows nothing. Other
    ``tasks`` than the trial's and other ``dynamics`` may be tried on it.
    """
    layer, dynamics = learner.network.layers[0], dynamics or learner.network.dynamics
    shown = trial.open(0, "train").images[:1]
    traces = []
    for task in tasks or trial.tasks:
        steps = schedule(task, trial.params.presentation)
        inputs = portable.shown(learner.network, shown, steps)
        currents = portable.in_time(layer, inputs)
        options = portable.options(dynamics, layer, steps)
        changing = portable.Following(dynamics, layer, steps).block(currents, inputs, options)
        trace = neurons.scan(currents, torch.zeros_like(currents[0]), changing, **options)
        traces.append((task, steps, trace))
    _, _, longest = max(traces, key=lambda found: found[1].dt_ms)
    crossings = longest.crossed.sum(0)[:, 0]
    ahead = crossings[-1] - crossings[0] if len(crossings) > 1 else crossings[0]
    rates = torch.stack([trace.crossed.mean(0)[:, 0] for _, _, trace in traces])
    telling = (rates.amax((0, 1)) <= 0.25) & (rates.amax(0) > 0).all(0)
    ahead = ahead.where(telling, -torch.inf) if telling.any() else ahead
    chosen = np.unravel_index(int(ahead.argmax()), ahead.shape)
    threshold, place = layer.threshold[:, chosen[0]], (slice(None), slice(None), 0, *chosen)
    frames = []
    for task, steps, trace in traces:
        for index, name in enumerate(compartments(learner.params)):
            values = {
                "task": task.name,
                "compartment": name,
                "time_ms": np.arange(len(steps)) * steps.dt_ms,
                "membrane": trace.membrane[place][:, index].cpu().numpy(),
                "threshold": float(threshold[min(index, len(threshold) - 1)]),
                "spike": trace.crossed[place][:, index].cpu().numpy(),
            }
            frames.append(pd.DataFrame(values))
    return pd.concat(frames, ignore_index=True)


def rates_and_gates(learner: SpikingLearner, trial: Trial, number: int = 256) -> pd.DataFrame:
    """Crossings per neuron and step of each compartment, and gates, on validation images."""
    names = compartments(learner.params)
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


def events(trial: Trial, number: int = 2) -> pd.DataFrame:
    """Events of one training stream of each of the first classes, on every task's clock.

    Columns: task, label, time_ms, channel (planes flattened).
    """
    frames = []
    for position, task in enumerate(trial.tasks):
        images, steps = trial.open(position, "train"), schedule(task, "frame")
        for label in task.classes[:number]:
            row = int(np.flatnonzero(np.asarray(images.labels) == label)[0])
            frame, channel = images.images[row : row + 1].reshape(task.frames, -1).nonzero()
            found = {"task": task.name, "label": label, "channel": channel}
            frames.append(pd.DataFrame({**found, "time_ms": frame * steps.dt_ms}))
    return pd.concat(frames, ignore_index=True)


def gates_in_time(learner: SpikingLearner, trial: Trial, number: int = 32) -> pd.DataFrame:
    """Weight of every compartment's membrane in the first layer, frame by frame, in every task.

    Median and the middle 80 % over validation streams and neurons. Columns: task, compartment,
    frame, median, low, high.
    """
    network, frames = learner.network, []
    layer = network.layers[0]
    for position, task in enumerate(trial.tasks):
        steps = schedule(task, trial.params.presentation)
        inputs = portable.shown(network, trial.open(position, "validation").images[:number], steps)
        options = portable.options(network.dynamics, layer, steps)
        following = portable.Following(network.dynamics, layer, steps)
        currents = portable.in_time(layer, inputs)
        weights = following.block(currents, inputs, options)["gate"].transpose(0, 1).flatten(2)
        for name, weight in zip(compartments(learner.params), weights, strict=True):
            low, median, high = weight.quantile(torch.tensor([0.1, 0.5, 0.9]), 1).numpy()
            found = {"task": task.name, "compartment": name, "frame": np.arange(len(steps))}
            frames.append(pd.DataFrame({**found, "median": median, "low": low, "high": high}))
    return pd.concat(frames, ignore_index=True)
