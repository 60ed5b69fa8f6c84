"""What neurons do: membranes, spike rates, gates."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ltgate.figures import style
from ltgate.figures.figure import figure


@figure("task", "compartment", "time_ms", "membrane", "threshold", "spike")
def membrane_traces(frame: pd.DataFrame) -> Figure:
    """Membrane of one neuron over time: a row of panels a compartment, a column a task.

    Columns: ``task``; ``compartment`` (fast, slow); ``time_ms``; ``membrane`` and ``threshold`` in
    the same (dimensionless) units; ``spike`` 0 or 1, drawn as ticks above the trace.
    """
    tasks, compartments = list(frame["task"].unique()), list(frame["compartment"].unique())
    size = (1 + 3.8 * len(tasks), 0.6 + 1.9 * len(compartments))
    fig, axes = style.panels(len(compartments), len(tasks), *size, sharex="col", sharey="row")
    for row, compartment in zip(axes, compartments, strict=True):
        colour = style.COMPARTMENTS.get(compartment, style.DARK)
        rows = frame[frame["compartment"] == compartment]
        top = max(rows["membrane"].max(), rows["threshold"].max())
        for axis, task in zip(row, tasks, strict=True):
            trace = rows[rows["task"] == task].sort_values("time_ms")
            axis.plot(trace["time_ms"], trace["membrane"], color=colour, linewidth=1)
            axis.plot(trace["time_ms"], trace["threshold"], color=style.DARK, dashes=(4, 3))
            spikes = trace.loc[trace["spike"] > 0, "time_ms"]
            axis.vlines(spikes, 1.08 * top, 1.2 * top, color=style.BLACK, linewidth=0.8)
            axis.set_title(f"{task} task, {compartment} compartment (spikes: {len(spikes)})")
        row[0].set_ylabel("membrane (a. u.)")
    for axis in axes[-1]:
        axis.set_xlabel("time (ms)")
    handles = [
        Line2D([], [], color=style.DARK, dashes=(4, 3), label="threshold"),
        Line2D([], [], color=style.BLACK, marker="|", linestyle="", label="spike"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


@figure("layer", "when", "compartment", "rate", "gate")
def spike_rates_and_gates(frame: pd.DataFrame) -> Figure:
    """Spike rate and gate of every layer and compartment.

    Columns: ``layer``; ``when``, the task shown and the state of learning in words; ``compartment``
    (fast, slow); ``rate``, spikes per neuron and step; ``gate``, the compartment's mean gate 0-1,
    NaN where it has none. Several rows (seeds) of a bar are averaged.
    """
    layers, moments = list(frame["layer"].unique()), list(frame["when"].unique())
    compartments = list(frame["compartment"].unique())
    fig, axes = style.panels(2, 1, 8.5, 5, sharex=True)
    bars = [(when, compartment) for when in moments for compartment in compartments]
    width = 0.8 / len(bars)
    for quantity, axis in zip(("rate", "gate"), axes[:, 0], strict=True):
        means = frame.groupby(["when", "compartment", "layer"])[quantity].mean()
        for place, (when, compartment) in enumerate(bars):
            heights = [means.get((when, compartment, layer), float("nan")) for layer in layers]
            shift = (place - (len(bars) - 1) / 2) * width
            axis.bar(
                [x + shift for x in range(len(layers))],
                heights,
                width,
                color=style.SERIES[moments.index(when) % len(style.SERIES)],
                alpha=0.55 if compartments.index(compartment) else 1.0,
                hatch="////" if compartments.index(compartment) else None,
                edgecolor="white",
                label=f"{when}, {compartment}",
            )
    axes[0, 0].set_ylabel("spike rate\n(per neuron and step)")
    axes[1, 0].set(ylabel="gate (share 0-1)", ylim=(0, 1), xlabel="layer")
    axes[1, 0].set_xticks(range(len(layers)), layers)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=min(len(bars), 4))
    return fig
