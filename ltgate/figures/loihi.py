"""The deployed network: cores, energy, latency, accuracy in integers."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogFormatter

from ltgate.figures import style
from ltgate.figures.figure import figure

GUIDE = {"energy": (100e-12, 500e-12, "J"), "latency": (1e-3, 5e-3, "s")}


@figure("core", "row", "column", "layer", "used")
def loihi_cores(frame: pd.DataFrame) -> Figure:
    """The chip's grid of cores: whose neurons lie where, and how full each core is.

    Columns: ``core``, its number; ``row``, ``column``, its place; ``layer``, whose neurons it has
    ('' = free, 'margin' = kept for what the rules do not know); ``used``, the larger share of its
    neurons and synapses, 0-1.
    """
    fig, axes = style.panels(1, 1, 8.5, 4.6)
    axis = axes[0, 0]
    layers = [layer for layer in dict.fromkeys(frame["layer"]) if layer not in ("", "margin")]
    known = len(style.SERIES)
    looks = {
        layer: {"facecolor": style.SERIES[n % known], "hatch": "...." if n >= known else None}
        for n, layer in enumerate(layers)
    }
    for core in frame.itertuples():
        place = (core.column, core.row)
        axis.add_patch(Rectangle(place, 0.9, 0.9, facecolor="white", edgecolor=style.GREY))
        if core.layer == "margin":
            axis.add_patch(
                Rectangle(place, 0.9, 0.9, facecolor="none", edgecolor=style.GREY, hatch="////")
            )
        elif core.layer:
            axis.add_patch(
                Rectangle(place, 0.9, 0.9 * core.used, edgecolor="white", **looks[core.layer])
            )
    axis.set(
        xlim=(-0.2, frame["column"].max() + 1.1), ylim=(frame["row"].max() + 1.1, -0.2),
        xlabel="column of cores", ylabel="row of cores", aspect="equal",
    )  # fmt: skip
    busy = frame[~frame["layer"].isin(["", "margin"])]
    handles = [
        Patch(edgecolor="white", label=f"{n}: {(busy['layer'] == n).sum()}", **looks[n])
        for n in layers
    ]
    margin = int((frame["layer"] == "margin").sum())
    if margin:
        handles.append(
            Patch(facecolor="none", edgecolor=style.GREY, hatch="////", label=f"margin: {margin}")
        )
    axis.set_title(
        f"{len(busy) + margin} of {len(frame)} cores; filled: neurons or synapses in use"
    )
    fig.legend(handles=handles, loc="outside lower center", ncols=5)
    return fig


@figure("task", "layer", "part", "joules")
def loihi_energy(frame: pd.DataFrame) -> Figure:
    """Estimated dynamic energy of a sample, layer by layer and by what takes it.

    Columns: ``task``; ``layer``; ``part`` (synops, updates, traffic); ``joules``, by counts.
    """
    tasks, layers = list(frame["task"].unique()), list(frame["layer"].unique())
    parts = list(frame["part"].unique())
    fig, axes = style.panels(1, len(tasks), 1 + 3.8 * len(tasks), 3.4, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        rows = frame[frame["task"] == task]
        bottom = np.zeros(len(layers))
        for number, part in enumerate(parts):
            of_part = rows[rows["part"] == part].set_index("layer")["joules"]
            heights = 1e6 * of_part.reindex(layers).fillna(0).to_numpy()
            axis.bar(layers, heights, bottom=bottom, color=style.SERIES[number], label=part)
            bottom += heights
        axis.set(title=f"{task} task: {bottom.sum():.3g} µJ", xlabel="layer")
    axes[0, 0].set_ylabel("dynamic energy per sample\n(µJ, estimate by counts)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(parts))
    return fig


@figure("quantity", "task", "low", "high")
def loihi_ranges(frame: pd.DataFrame) -> Figure:
    """Estimated energy and latency of a sample as ranges, with the guide's values.

    Columns: ``quantity`` (dynamic energy, total energy, latency); ``task``; ``low``, ``high``, in
    J or s.
    """
    fig, axes = style.panels(1, 2, 9, 3, width_ratios=[1.4, 1])
    tasks = list(frame["task"].unique())
    for axis, kind in zip(axes[0], ("energy", "latency"), strict=True):
        rows = frame[frame["quantity"].str.contains(kind)]
        low, high, unit = GUIDE[kind]
        axis.axvspan(low, high, color=style.GREY, alpha=0.35, linewidth=0)
        axis.text(high, -0.75, " guide", va="center", color=style.DARK)
        names = [f"{row.quantity}\n{row.task}" for row in rows.itertuples()]
        for place, row in enumerate(rows.itertuples()):
            colour = style.SERIES[tasks.index(row.task)]
            axis.plot([row.low, row.high], [place, place], "|-", color=colour, linewidth=4)
        axis.set(xscale="log", ylim=(len(rows) - 0.4, -1.1))
        axis.set_yticks(range(len(rows)), names)
        axis.set_xlabel(f"{kind} per sample ({unit}, estimate)")
    axes[0, 0].set_ylabel("quantity")
    return fig


@figure("trained", "runs_as", "task", "accuracy")
def loihi_accuracy(frame: pd.DataFrame) -> Figure:
    """Test accuracy in floating point and in the chip's integers.

    Columns: ``trained`` (full precision, chip-aware); ``runs_as`` (float, integers); ``task``;
    ``accuracy`` 0-1.
    """
    tasks, trained = list(frame["task"].unique()), list(frame["trained"].unique())
    kinds = list(frame["runs_as"].unique())
    fig, axes = style.panels(1, len(tasks), 1 + 3.4 * len(tasks), 3.2, sharey=True)
    width = 0.8 / len(kinds)
    for axis, task in zip(axes[0], tasks, strict=True):
        rows = frame[frame["task"] == task].set_index(["runs_as", "trained"])["accuracy"]
        for number, kind in enumerate(kinds):
            heights = [100 * rows.get((kind, name), float("nan")) for name in trained]
            places = [n + (number - (len(kinds) - 1) / 2) * width for n in range(len(trained))]
            axis.bar(places, heights, width, color=style.SERIES[number], label=kind)
            for place, height in zip(places, heights, strict=True):
                axis.text(place, height, f"{height:.2f}", ha="center", va="bottom", fontsize=8)
        axis.set_xticks(range(len(trained)), trained)
        axis.set(title=f"{task} task", xlabel="trained with")
    least = 100 * frame["accuracy"].min()
    axes[0, 0].set(
        ylabel="test accuracy (%)", ylim=(max(0, least - 0.5 * (100 - least) - 1), 100.5)
    )
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(kinds))
    return fig


@figure("joules", "accuracy", "target_rate", "chip_bits", "chip_input", "front")
def loihi_front(frame: pd.DataFrame) -> Figure:
    """Validation accuracy against estimated energy of the deployments searched.

    Columns: ``joules``, mean dynamic energy of a sample (estimate by counts); ``accuracy``, mean
    over tasks, validation images; ``target_rate``, ``chip_bits``, ``chip_input``, what was varied;
    ``front``, whether nothing is both cheaper and better.
    """
    fig, axes = style.panels(1, 1, 7.5, 4)
    axis = axes[0, 0]
    bits = sorted(frame["chip_bits"].unique())
    markers = {"direct": "s", "differences": "o"}
    for row in frame.itertuples():
        colour = style.SERIES[bits.index(row.chip_bits) % len(style.SERIES)]
        face = colour if row.front else "none"
        axis.plot(
            1e6 * row.joules, 100 * row.accuracy, markers[row.chip_input], color=colour,
            markerfacecolor=face,
        )  # fmt: skip
        if row.front:
            place = (1e6 * row.joules, 100 * row.accuracy)
            above = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
            axis.annotate(f"{row.target_rate:g}", place, fontsize=8, **above)
    front = frame[frame["front"]].sort_values("joules")
    axis.plot(1e6 * front["joules"], 100 * front["accuracy"], color=style.GREY, zorder=0)
    axis.set(xscale="log", xlabel="dynamic energy per sample (µJ, estimate by counts)")
    axis.set_ylabel("validation accuracy (%)")
    axis.xaxis.set_major_formatter(LogFormatter())  # 700, not 7 x 10^2
    axis.xaxis.set_minor_formatter(LogFormatter())
    axis.margins(y=0.1)
    handles = [
        Patch(color=style.SERIES[n % len(style.SERIES)], label=f"{b}-bit weights")
        for n, b in enumerate(bits)
    ]
    handles += [
        axis.plot([], [], marker, color=style.DARK, label=f"input: {name}")[0]
        for name, marker in markers.items()
    ]
    axis.set_title("on the front: filled, with the target firing rate")
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig


@figure("rule", "samples", "task", "accuracy")
def loihi_learning(frame: pd.DataFrame) -> Figure:
    """Accuracy while the last layer learns, by the chip's rule and by the library's.

    Columns: ``rule``; ``samples`` shown so far; ``task``; ``accuracy`` 0-1.
    """
    tasks, rules = list(frame["task"].unique()), list(frame["rule"].unique())
    fig, axes = style.panels(1, len(tasks), 1 + 3.8 * len(tasks), 3.2, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        for number, rule in enumerate(rules):
            rows = frame[(frame["task"] == task) & (frame["rule"] == rule)].sort_values("samples")
            axis.plot(
                rows["samples"], 100 * rows["accuracy"], color=style.SERIES[number], marker=".",
                label=rule, dashes=(None, None) if number == 0 else (3, 2 + number),
            )  # fmt: skip
        axis.set(title=f"{task} task", xlabel="samples learned")
    axes[0, 0].set(ylabel="accuracy (%)", ylim=(-3, 103))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(rules))
    return fig
