"""Tidy frames for the figures and tables, from tasks, learners and result rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ltgate import backends, features, figures, neurons
from ltgate.backends import portable
from ltgate.data.store import open_task
from ltgate.data.tasks import Schedule, TaskSpec, schedule
from ltgate.figures import style
from ltgate.figures.comparison import CUES
from ltgate.methods.base import SpikingLearner
from ltgate.network import KERNEL, Layer
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
    images: np.ndarray | None = None,
    neuron: tuple[int, int, int] | None = None,
) -> pd.DataFrame:
    """All compartments of one first-layer neuron, shown one image at every task's frame rate.

    The image, or stream, is the first task's first training one. The neuron is one whose slow
    compartment alone crosses its threshold where steps are longest, while all do where they are
    shorter, as far as there is one; among those, one that does so often, and that fires in a
    quarter of the steps at most: firing in every step shows nothing. Other ``tasks`` than the
    trial's, other ``dynamics``, another image (of ``images``, the first) and a ``neuron`` (channel,
    row, column; kept as the frame's ``attrs["neuron"]``) may be asked for.
    """
    layer = learner.network.layers[0]
    shown = (trial.open(0, "train").images if images is None else images)[:1]
    traces = []
    for task in tasks or trial.tasks:
        steps = schedule(task, trial.params.presentation)
        traces.append((task, steps, *_first_layer(learner, shown, steps, dynamics, neuron)))
    channel, *position = neuron or _telling(traces)
    alone = traces[0][2].membrane[0, 0, 0].numel() == 1
    place = (slice(None), slice(None), 0, *((0, 0, 0) if alone else (channel, *position)))
    threshold, gate = layer.threshold[:, channel], layer.gate[channel]
    frames = []
    for task, steps, trace, settings in traces:
        columns = {
            "before": settings["before"][place],
            "membrane": trace.membrane[place],
            "decay": settings["decay"].expand_as(trace.membrane)[place],
            "spike": trace.crossed[place],
        }
        for index, name in enumerate(compartments(learner.params)):
            values = {key: column[:, index].cpu().numpy() for key, column in columns.items()}
            values |= {"task": task.name, "compartment": name}
            values["time_ms"] = np.arange(len(steps)) * steps.dt_ms
            values["gate"] = float(gate if index == 0 else 1 - gate)
            values["threshold"] = float(threshold[min(index, len(threshold) - 1)])
            frames.append(pd.DataFrame(values))
    found = pd.concat(frames, ignore_index=True)
    found.attrs["neuron"] = (channel, *position)
    return found


def _telling(traces: Sequence[tuple]) -> tuple[int, ...]:
    """Channel, row and column of the neuron that :func:`membranes` shows."""
    rates = torch.stack([trace.crossed.mean(0)[:, 0] for _, _, trace, _ in traces])
    longest = rates[max(range(len(traces)), key=lambda number: traces[number][1].dt_ms)]
    alone = (longest[-1] > 0) & (longest[:-1] == 0).all(0)
    everywhere = (rates.amax(0) > 0).all(0)
    calm = (rates.amax((0, 1)) - 0.25).clamp(min=0)
    score = 8.0 * everywhere + 4.0 * alone + 2 * longest[-1] - longest[0] - 8 * calm
    return tuple(map(int, np.unravel_index(int(score.argmax()), score.shape)))


def _first_layer(
    learner: SpikingLearner,
    samples: np.ndarray,
    steps: Schedule,
    dynamics: Dynamics | None = None,
    neuron: tuple[int, int, int] | None = None,
) -> tuple[neurons.Trace, dict[str, torch.Tensor]]:
    """The first layer's record over time [T, C, B, ...], and its settings, which may change too.

    Beside the options of :func:`ltgate.neurons.step`: ``before``, membranes before the reset. A
    ``neuron`` is scanned alone, unless its timescale follows the whole layer.
    """
    layer, dynamics = learner.network.layers[0], dynamics or learner.network.dynamics
    inputs = portable.shown(learner.network, samples, steps)
    if neuron and dynamics.follows != "layer":
        layer, inputs = _alone(layer, inputs, neuron)
    currents = portable.in_time(layer, inputs)
    options = portable.options(dynamics, layer, steps)
    changing = portable.Following(dynamics, layer, steps).block(currents, inputs, options)
    trace = neurons.scan(currents, torch.zeros_like(currents[0]), changing, **options)
    settings = options | changing
    earlier = torch.cat([torch.zeros_like(currents[:1]), trace.membrane[:-1]])
    settings["before"] = earlier * settings["decay"] + currents * options["gain"]
    return trace, settings


def _alone(
    layer: Layer, inputs: torch.Tensor, neuron: tuple[int, int, int]
) -> tuple[Layer, torch.Tensor]:
    """One neuron as a layer of its own, and the part [T, B, ...] of the inputs that it sees."""
    one = slice(neuron[0], neuron[0] + 1)
    if layer.is_conv:
        row, column = neuron[1] * layer.stride, neuron[2] * layer.stride
        padded = torch.nn.functional.pad(inputs, 4 * [layer.padding])
        inputs = padded[..., row : row + KERNEL, column : column + KERNEL]
    parts = layer.weight[:, one].flatten(2), layer.threshold[:, one], layer.gate[one]
    alone = Layer(layer.name, 0, tuple(inputs.shape[2:]), (1, 1, 1), *parts)
    alone.bits = layer.bits
    return alone, inputs


def layers(learner: SpikingLearner) -> pd.DataFrame:
    """The network as ``figures.network_diagram`` takes it, the input first."""
    network, names = learner.network, compartments(learner.params)
    taus = dict(zip(names, network.dynamics.tau_ms, strict=True))
    spike = {"or": "either above\nits threshold", "blend": "blend by the gate\nabove threshold"}
    rule = spike.get(network.dynamics.output, network.dynamics.output)
    rows = [("input", network.layers[0].in_shape, 0, taus, rule, "")]
    for layer in network.layers:
        sides = [side for name, side in map(features.split, learner.views) if name == layer.name]
        patches = [f" of {side} x {side}" for side in sides if side > 1]
        read = "".join(["counts", *patches]) if sides else ""
        rows.append((layer.name, layer.out_shape, layer.neurons, taus, rule, read))
    columns = ["layer", "shape", "neurons", "compartments", "spike", "read"]
    return pd.DataFrame(rows, columns=columns)


def learned_filters(learner: SpikingLearner) -> pd.DataFrame:
    """Weights of the first layer's filters in every compartment, averaged over input channels."""
    weights = learner.network.layers[0].weight.mean(2).cpu().numpy()
    rows = [
        (name, number, one)
        for name, filters in zip(compartments(learner.params), weights, strict=True)
        for number, one in enumerate(filters)
    ]
    return pd.DataFrame(rows, columns=["compartment", "filter", "weights"])


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


def confusion(trials: Sequence[Trial], number: int = 500) -> pd.DataFrame:
    """Which class is told for each class after the last task, on validation images of all tasks."""
    frames = []
    for trial in trials:
        learner = trial.restore(f"task{len(trial.tasks) - 1}.safetensors")
        for position in range(len(trial.tasks)):
            images = trial.open(position, "validation")
            told = learner.scores(images, number).argmax(1).numpy()
            found = {"method": trial.method, "truth": images.labels[: len(told)], "told": told}
            frames.append(pd.DataFrame(found))
    found = pd.concat(frames)
    shares = pd.crosstab([found["method"], found["truth"]], found["told"], normalize="index")
    return shares.stack().rename("share").reset_index()


def embedding(learner: SpikingLearner, trial: Trial, number: int = 150) -> pd.DataFrame:
    """What the readout sees of validation images, on its two main axes (principal components)."""
    frames, seen = [], []
    for position, task in enumerate(trial.tasks):
        images = trial.open(position, "validation")
        steps = schedule(task, trial.params.presentation)
        activity = backends.forward(learner.used, images.images[:number], steps)
        seen.append(learner.inputs_of(learner.seen(activity)).numpy())
        labels = images.labels[:number]
        frames.append(pd.DataFrame({"task": task.name, "label": labels}))
    inputs = np.concatenate(seen)
    left, size, _ = np.linalg.svd(inputs - inputs.mean(0), full_matrices=False)
    places = left[:, :2] * size[:2]
    found = pd.concat(frames, ignore_index=True)
    return found.assign(first=places[:, 0], second=places[:, 1])


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
    chosen = table[table["scenario"] == scenario].groupby("method", sort=False)
    return pd.DataFrame([_headline(method, part) for method, part in chosen])


def _headline(method: str, part: pd.DataFrame) -> dict[str, str]:
    """One row of :func:`headline`."""
    rows = {(row.cue, row.metric): row for row in part.itertuples()}

    def percent(cue: str, metric: str) -> str:
        row = rows.get((cue, metric))
        return "" if row is None else style.interval(row.mean, row.ci_low, row.ci_high, 2)

    told = [f"{100 * rows[c, 'task_told'].mean:.1f}" for c in CUES if (c, "task_told") in rows]
    seeds = [rows[cue, "acc"].seeds for cue in CUES if (cue, "acc") in rows]
    spikes = rows.get(("yes", "spikes_per_sample"))
    state = [rows[c, "state_bytes"].mean for c in CUES if (c, "state_bytes") in rows]
    return {
        "method": method,
        "ACC, %": percent("yes", "acc"),
        "forgetting, points": percent("yes", "forgetting"),
        "control: ACC, %": percent("no", "acc"),
        "control: forgetting, points": percent("no", "forgetting"),
        "task told, % (control)": " ".join(told[:1] + [f"({x})" for x in told[1:]]),
        "spikes": "" if spikes is None else f"{spikes.mean:,.0f}",
        "seeds": " ".join([f"{seeds[0]}", *(f"({x})" for x in seeds[1:] if x != seeds[0])]),
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
    frames = []
    for position, task in enumerate(trial.tasks):
        steps = schedule(task, trial.params.presentation)
        streams = trial.open(position, "validation").images[:number]
        weights = _first_layer(learner, streams, steps)[1]["gate"].transpose(0, 1).flatten(2)
        for name, weight in zip(compartments(learner.params), weights, strict=True):
            low, median, high = weight.quantile(torch.tensor([0.1, 0.5, 0.9]), 1).numpy()
            found = {"task": task.name, "compartment": name, "frame": np.arange(len(steps))}
            frames.append(pd.DataFrame({**found, "median": median, "low": low, "high": high}))
    return pd.concat(frames, ignore_index=True)
