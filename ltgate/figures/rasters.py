"""Streams of events, and the gates that follow them."""

import pandas as pd
from matplotlib.figure import Figure

from ltgate.figures import style
from ltgate.figures.figure import figure


@figure("task", "label", "time_ms", "channel")
def event_raster(frame: pd.DataFrame) -> Figure:
    """Events of a stream: a row of panels a class, a column a task; each on its own clock.

    Columns: ``task``, ``label``, ``time_ms``, ``channel``; one row an event.
    """
    tasks, labels = list(frame["task"].unique()), list(frame["label"].unique())
    size = (1 + 3.8 * len(tasks), 0.6 + 1.9 * len(labels))
    fig, axes = style.panels(len(labels), len(tasks), *size, sharex="col", sharey=True)
    for row, label in zip(axes, labels, strict=True):
        for axis, task in zip(row, tasks, strict=True):
            shown = frame[(frame["label"] == label) & (frame["task"] == task)]
            axis.plot(shown["time_ms"], shown["channel"], "|", color=style.DARK, markersize=3)
            axis.set_title(f"{task} task, class {label}")
        row[0].set_ylabel("channel")
    for axis in axes[-1]:
        axis.set_xlabel("time (ms)")
    return fig


@figure("task", "compartment", "frame", "median", "low", "high")
def gates_in_time(frame: pd.DataFrame) -> Figure:
    """Weight of every compartment's membrane while a stream runs: a column a task.

    Columns: ``task``, ``compartment``, ``frame``; ``median``, ``low``, ``high`` of the weight.
    """
    tasks, compartments = list(frame["task"].unique()), list(frame["compartment"].unique())
    fig, axes = style.panels(1, len(tasks), 1 + 3.8 * len(tasks), 2.8, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        for number, compartment in enumerate(compartments):
            rows = frame[(frame["task"] == task) & (frame["compartment"] == compartment)]
            colour = style.COMPARTMENTS.get(compartment, style.SERIES[number % len(style.SERIES)])
            axis.plot(rows["frame"], rows["median"], color=colour, label=compartment)
            axis.fill_between(rows["frame"], rows["low"], rows["high"], color=colour, alpha=0.2)
        axis.set(title=f"{task} task", xlabel="frame", ylim=(-0.03, 1.03))
    axes[0, 0].set_ylabel("weight of the membrane")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside right center", title="compartment")
    return fig


@figure("method", "neuron", "gate", "truth")
def neuron_gates(frame: pd.DataFrame) -> Figure:
    """Gate of every neuron beside the timescale of its inputs: a panel a method.

    Columns: ``method``, ``neuron``; ``gate``, the weight of the fast membrane, and ``truth``, 1
    where the neuron's inputs are fast. One seed.
    """
    methods = list(frame["method"].unique())
    fig, axes = style.panels(1, len(methods), 0.8 + 2.4 * len(methods), 2.6, sharey=True)
    for axis, method in zip(axes[0], methods, strict=True):
        rows = frame[frame["method"] == method]
        for truth, colour in ((1.0, style.VERMILION), (0.0, style.BLUE)):
            chosen = rows[rows["truth"] == truth]
            name = "fast inputs" if truth else "slow inputs"
            axis.plot(chosen["neuron"], chosen["gate"], ".", color=colour, ms=4, label=name)
        right = ((rows["gate"] > 0.5) == (rows["truth"] > 0.5)).mean()
        axis.set(title=f"{style.method(method)[0]}\n{100 * right:.0f} % right", xlabel="neuron")
    axes[0, 0].set_ylabel("weight of the fast membrane")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside right center")
    return fig
