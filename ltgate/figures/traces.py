"""What the network is shown, and what its neurons do with it."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ltgate.figures import style
from ltgate.figures.style import figure

BETWEEN = np.linspace(0, 1, 9)  # of a step, where the decay of a membrane is drawn


@figure("task", "label", "image", "time_ms", "drive")
def tasks_and_frames(frame: pd.DataFrame) -> Figure:
    """Each task's images, and the drive of one image over time.

    One row a sample: ``task``; ``label``, its class; ``image``, an array of bytes [height, width]
    or [channels, height, width] (three are drawn as colours, of others the mean); ``time_ms`` and
    ``drive``, arrays [T]: the start of each step and the factor (no unit) on the pixels' current.
    The first five samples of a task and the first one's drive are drawn.
    """
    tasks = list(frame["task"].unique())
    wide = {"width_ratios": [1] * 5 + [6]}
    fig, axes = style.panels(len(tasks), 6, 9, 0.4 + 1.5 * len(tasks), gridspec_kw=wide)
    last_ms = max(float(np.max(times)) for times in frame["time_ms"])
    for row, task in zip(axes, tasks, strict=True):
        samples = frame[frame["task"] == task]
        for axis in row[:5]:
            axis.axis("off")
        for axis, (_, sample) in zip(row[:5], samples.iterrows(), strict=False):
            axis.imshow(_drawn(sample["image"]), cmap="gray_r", vmin=0, vmax=255)
            axis.set_title(str(sample["label"]))
        time_ms, drive = map(np.asarray, samples.iloc[0][["time_ms", "drive"]])
        steps = drive > 0
        row[5].vlines(time_ms[steps], 0, drive[steps], color=style.DARK, linewidth=0.5, snap=False)
        row[5].set(title=f"{task}: {steps.sum()} steps with input", ylabel="drive")
        row[5].set(xlim=(-0.02 * last_ms, 1.08 * last_ms), ylim=(0, 1.1 * max(1, drive.max())))
    axes[-1, 5].set_xlabel("time from the start of the sample (ms)")
    return fig


def _drawn(image: np.ndarray) -> np.ndarray:
    """An image as Matplotlib takes it."""
    if image.ndim == 2:
        return image
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(0)


@figure("compartment", "filter", "weights")
def learned_filters(frame: pd.DataFrame) -> Figure:
    """Weights of the first layer's filters: a row of panels a compartment.

    Columns: ``compartment``; ``filter``, its number; ``weights``, an array [height, width].
    """
    names, filters = list(frame["compartment"].unique()), list(frame["filter"].unique())
    size = (min(11, 1.5 + 0.6 * len(filters)), max(2, 0.6 + 0.7 * len(names)))
    fig, axes = style.panels(len(names), len(filters), *size)
    largest = max(float(np.abs(weights).max()) for weights in frame["weights"])
    for row in frame.itertuples():
        axis = axes[names.index(row.compartment), filters.index(row.filter)]
        drawn = axis.imshow(row.weights, cmap="PuOr", vmin=-largest, vmax=largest)
        axis.set(xticks=[], yticks=[])
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name)
    fig.supxlabel("filter", fontsize="medium")
    fig.colorbar(drawn, ax=axes, label="weight", aspect=10)
    return fig


@figure("task", "compartment", "time_ms", "before", "membrane", "decay", "threshold", "spike")
def membrane_traces(frame: pd.DataFrame) -> Figure:
    """Membrane of one neuron over time: a row of panels a compartment, a column a task.

    Columns: ``task``; ``compartment`` (fast, slow); ``time_ms``, the start of a step; ``before``
    and ``membrane``, before and after its reset, and ``threshold``, in the same (dimensionless)
    units; ``decay``, what is left of the membrane at the next step; ``spike`` 0 or 1, drawn as
    ticks above the trace. Between steps the membrane decays.
    """
    tasks, compartments = list(frame["task"].unique()), list(frame["compartment"].unique())
    size = (1 + 3.8 * len(tasks), 0.6 + 1.9 * len(compartments))
    fig, axes = style.panels(len(compartments), len(tasks), *size, sharex="col", sharey="row")
    for row, compartment in zip(axes, compartments, strict=True):
        colour = style.COMPARTMENTS.get(compartment, style.DARK)
        rows = frame[frame["compartment"] == compartment]
        top = max(rows["before"].max(), rows["threshold"].max())
        reach = top - min(0, rows["membrane"].min())
        for axis, task in zip(row, tasks, strict=True):
            trace = rows[rows["task"] == task].sort_values("time_ms")
            axis.plot(*membrane_path(trace), color=colour, linewidth=1)
            axis.axhline(trace["threshold"].iloc[0], color=style.DARK, ls="--", linewidth=1)
            spikes = trace.loc[trace["spike"] > 0, "time_ms"]
            ends = (top + 0.06 * reach, top + 0.16 * reach)
            axis.vlines(spikes, *ends, color=style.BLACK, linewidth=0.8)
            axis.set_title(f"{task} task, {compartment} compartment (spikes: {len(spikes)})")
        row[0].set_ylabel("membrane (a. u.)")
    for axis in axes[-1]:
        axis.set_xlabel("time (ms)")
    handles = [
        Line2D([], [], color=style.DARK, ls="--", linewidth=1, label="threshold"),
        Line2D([], [], color=style.BLACK, marker="|", linestyle="", label="spike"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def membrane_path(trace: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Times and membrane: up to what it is before the reset, down by it, then its decay."""
    times, left = trace["time_ms"].to_numpy(float), trace["decay"].to_numpy(float)
    step = np.diff(times, append=2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + 1)
    x = np.column_stack([times, times[:, None] + step[:, None] * BETWEEN])
    decaying = trace["membrane"].to_numpy(float)[:, None] * left[:, None] ** BETWEEN
    return x.ravel(), np.column_stack([trace["before"], decaying]).ravel()


@figure("layer", "when", "compartment", "rate", "gate")
def spike_rates_and_gates(frame: pd.DataFrame) -> Figure:
    """Spike rate and gate of every layer and compartment: a column of panels a task.

    Columns: ``layer``; ``when``, the task shown and the state of learning in words; ``compartment``
    (fast, slow); ``rate``, spikes per neuron and step; ``gate``, the compartment's mean gate 0-1,
    NaN where it has none. Several rows (seeds) of a bar are averaged.
    """
    layers, moments = list(frame["layer"].unique()), list(frame["when"].unique())
    compartments = list(frame["compartment"].unique())
    fig, axes = style.panels(2, len(moments), 8.5, 4.6, sharex=True, sharey="row")
    width = 0.8 / len(compartments)
    for column, when in zip(axes.T, moments, strict=True):
        for axis, quantity in zip(column, ("rate", "gate"), strict=True):
            rows = frame[frame["when"] == when]
            means = rows.pivot_table(index="layer", columns="compartment", values=quantity)
            means = means.reindex(index=layers, columns=compartments)
            for place, (name, colour) in enumerate(_colours(compartments).items()):
                x = np.arange(len(layers)) + (place - (len(compartments) - 1) / 2) * width
                axis.bar(x, means[name], width, color=colour, label=f"{name} compartment")
        column[0].set_title(when)
        column[1].set(xlabel="layer", ylim=(0, 1))
        column[1].set_xticks(range(len(layers)), layers)
    style.percent(axes[0, 0], "crossings\n(% of neurons and steps)")
    style.percent(axes[1, 0], "gate (%)")
    style.legend(fig)
    return fig


def _colours(compartments: list[str]) -> dict[str, str]:
    """Of each compartment; of other time constants than fast and slow, any."""
    others = zip(compartments, style.SERIES * len(compartments), strict=False)
    return {name: style.COMPARTMENTS.get(name, colour) for name, colour in others}


@figure("task", "label", "time_ms", "channel")
def event_raster(frame: pd.DataFrame) -> Figure:
    """Events of a stream: a row of panels a class, a column a task; each on its own clock.

    Columns: ``task``, ``label``, ``time_ms``, ``channel``; one row an event. As an animation all
    run on one clock, in real time: ten pictures a second.
    """
    tasks, labels = list(frame["task"].unique()), list(frame["label"].unique())
    size = (1 + 3.8 * len(tasks), 0.6 + 1.9 * len(labels))
    fig, axes = style.panels(len(labels), len(tasks), *size, sharex="col", sharey=True)
    drawn = []
    for row, label in zip(axes, labels, strict=True):
        for axis, task in zip(row, tasks, strict=True):
            shown = frame[(frame["label"] == label) & (frame["task"] == task)]
            place = (shown["time_ms"].to_numpy(), shown["channel"].to_numpy())
            drawn += [(*axis.plot(*place, "|", color=style.DARK, markersize=3), *place)]
            axis.set_title(f"{task} task, class {label}")
        row[0].set_ylabel("channel")
    for axis in axes[-1]:
        axis.set_xlabel("time (ms)")

    def until(now: float) -> None:
        for line, times, channels in drawn:
            line.set_data(times[times <= now], channels[times <= now])

    ends = np.arange(100, frame["time_ms"].max() + 100, 100)
    fig.moments = tuple(partial(until, now) for now in ends)
    return fig


@figure("task", "compartment", "frame", "median", "low", "high")
def gates_in_time(frame: pd.DataFrame) -> Figure:
    """Weight of every compartment's membrane while a stream runs: a column a task.

    Columns: ``task``, ``compartment``, ``frame``; ``median``, ``low``, ``high`` of the weight.
    """
    colours = _colours(list(frame["compartment"].unique()))
    fig, panels = style.side_by_side(frame, "task", 3.8, 2.8)
    for axis, task, of_task in panels:
        for compartment, colour in colours.items():
            rows = of_task[of_task["compartment"] == compartment]
            axis.plot(rows["frame"], rows["median"], color=colour, label=compartment)
            axis.fill_between(rows["frame"], rows["low"], rows["high"], color=colour, alpha=0.2)
        axis.set(title=f"{task} task", xlabel="frame", ylim=(-0.03, 1.03))
    style.percent(fig.axes[0], "weight of the membrane (%)")
    style.legend(fig, "outside right center", title="compartment")
    return fig


@figure("method", "neuron", "gate", "truth")
def neuron_gates(frame: pd.DataFrame) -> Figure:
    """Gate of every neuron beside the timescale of its inputs: a panel a method.

    Columns: ``method``, ``neuron``; ``gate``, the weight of the fast membrane, and ``truth``, 1
    where the neuron's inputs are fast. One seed.
    """
    fig, panels = style.side_by_side(frame, "method", 2.4, 2.6)
    for axis, method, rows in panels:
        for truth, name in ((1.0, "fast"), (0.0, "slow")):
            chosen = rows[rows["truth"] == truth]
            look = {"color": style.COMPARTMENTS[name], "ms": 4, "label": f"{name} inputs"}
            axis.plot(chosen["neuron"], chosen["gate"], ".", **look)
        right = ((rows["gate"] > 0.5) == (rows["truth"] > 0.5)).mean()
        axis.set(title=f"{style.method(method)[0]}\n{100 * right:.0f} % right", xlabel="neuron")
    style.percent(fig.axes[0], "weight of the\nfast membrane (%)")
    style.legend(fig, "outside right center")
    return fig


@figure("task", "label", "first", "second")
def embedding(frame: pd.DataFrame) -> Figure:
    """What the readout sees of every image, on its two main axes: a panel a task.

    Columns: ``task``; ``label``, drawn where the image lies; ``first``, ``second``, its place.
    """
    fig, panels = style.side_by_side(frame, "task", 3.8, 3.6)
    for axis, task, of_task in panels:
        axis.plot(frame["first"], frame["second"], ".", color="0.88", markersize=3)
        for number, (label, rows) in enumerate(of_task.groupby("label")):
            look = {"color": style.SERIES[number % 5], "markeredgewidth": 0.3, "markersize": 6}
            axis.plot(rows["first"], rows["second"], ls="", marker=f"${label}$", **look)
        axis.set(title=f"{task} task (others: grey)", xlabel="first principal axis")
    fig.axes[0].set_ylabel("second principal axis")
    return fig
