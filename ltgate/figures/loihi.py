"""The deployed network: cores, energy, latency, accuracy in integers."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, LogFormatter

from ltgate.figures import style
from ltgate.figures.style import figure

GUIDE = {"energy": (100e-12, 500e-12, "J"), "latency": (1e-3, 5e-3, "s")}
MARGIN = {"facecolor": "none", "edgecolor": style.GREY, "hatch": "////"}


@figure("core", "row", "column", "layer", "used")
def loihi_cores(frame: pd.DataFrame) -> Figure:
    """The chip's grid of cores: whose neurons lie where, and how full each core is.

    Columns: ``core``, its number; ``row``, ``column``, its place; ``layer``, whose neurons it has
    ('' = free, 'margin' = kept for what the rules do not know); ``used``, the larger share of its
    neurons and synapses, 0-1.
    """
    fig, axes = style.panels(1, 1, 8.5, 4.6)
    axis, known = axes[0, 0], len(style.SERIES)
    owned = frame["layer"][~frame["layer"].isin(["", "margin"])]
    looks = {
        layer: {
            "facecolor": style.SERIES[number % known],
            "edgecolor": "white",
            "hatch": "...." if number >= known else None,
        }
        for number, layer in enumerate(owned.unique())
    }
    for core in frame.itertuples():
        place = (core.column, core.row)
        axis.add_patch(Rectangle(place, 0.9, 0.9, facecolor="white", edgecolor=style.GREY))
        if core.layer:
            height = 0.9 if core.layer == "margin" else 0.9 * core.used
            axis.add_patch(Rectangle(place, 0.9, height, **looks.get(core.layer, MARGIN)))
    rows, columns = frame["row"].max() + 1, frame["column"].max() + 1
    axis.set(xlim=(-0.2, columns + 0.1), ylim=(rows + 0.1, -0.2), aspect="equal")
    axis.set_xticks(np.arange(columns) + 0.45, range(columns))
    axis.set_yticks(np.arange(rows) + 0.45, range(rows))
    axis.tick_params(length=0)
    axis.set(xlabel="column of cores", ylabel="row of cores")
    margin = int((frame["layer"] == "margin").sum())
    axis.set_title(
        f"{len(owned) + margin} of {len(frame)} cores; filled: neurons or synapses in use"
    )
    handles = [Patch(label=f"{name}: {(owned == name).sum()}", **looks[name]) for name in looks]
    handles += [Patch(label=f"margin: {margin}", **MARGIN)] * bool(margin)
    fig.legend(handles=handles, loc="outside lower center", ncols=5)
    return fig


@figure("task", "layer", "part", "joules")
def loihi_energy(frame: pd.DataFrame) -> Figure:
    """Estimated dynamic energy of a sample, layer by layer and by what takes it.

    Columns: ``task``; ``layer``; ``part`` (synops, updates, traffic); ``joules``, by counts.
    """
    layers = list(frame["layer"].unique())
    fig, panels = style.side_by_side(frame, "task", 3.8, 3.4)
    for axis, task, rows in panels:
        bottom = np.zeros(len(layers))
        for part, colour in zip(frame["part"].unique(), style.SERIES, strict=False):
            of_part = rows[rows["part"] == part].set_index("layer")["joules"]
            heights = 1e3 * of_part.reindex(layers).fillna(0).to_numpy()
            axis.bar(layers, heights, bottom=bottom, color=colour, label=part)
            bottom += heights
        axis.set(title=f"{task} task: {bottom.sum():.2g} mJ", xlabel="layer")
    fig.axes[0].set_ylabel("dynamic energy per sample\n(mJ, estimate by counts)")
    style.legend(fig)
    return fig


@figure("quantity", "task", "low", "high")
def loihi_ranges(frame: pd.DataFrame) -> Figure:
    """Estimated energy and latency of a sample as ranges, with the guide's values.

    Columns: ``quantity`` (dynamic energy, total energy, latency); ``task``; ``low``, ``high``, in
    J or s.
    """
    fig, axes = style.panels(1, 2, 9, 3, width_ratios=[1.4, 1])
    for axis, kind in zip(axes[0], ("energy", "latency"), strict=True):
        rows = frame[frame["quantity"].str.contains(kind)]
        low, high, unit = GUIDE[kind]
        axis.axvspan(low, high, color=style.GREY, alpha=0.35, linewidth=0)
        axis.text(high, -0.75, " guide", va="center", color=style.DARK)
        for place, row in enumerate(rows.itertuples()):
            axis.plot([row.low, row.high], [place, place], color=style.DARK, linewidth=4)
        axis.set(xscale="log", ylim=(len(rows) - 0.4, -1.1))
        axis.xaxis.set_major_formatter(EngFormatter(unit))
        axis.set_yticks(range(len(rows)), rows["quantity"] + "\n" + rows["task"] + " task")
        axis.set_xlabel(f"{kind} per sample (estimate)")
    axes[0, 0].set_ylabel("quantity")
    return fig


@figure("trained", "runs_as", "task", "accuracy")
def loihi_accuracy(frame: pd.DataFrame) -> Figure:
    """Test accuracy in floating point and in the chip's integers.

    Columns: ``trained`` (full precision, chip-aware); ``runs_as`` (float, integers); ``task``;
    ``accuracy`` 0-1.
    """
    trained, kinds = list(frame["trained"].unique()), list(frame["runs_as"].unique())
    fig, panels = style.side_by_side(frame, "task", 3.4, 3)
    for axis, task, rows in panels:
        found = rows.set_index(["runs_as", "trained"])["accuracy"]
        for number, (kind, colour) in enumerate(zip(kinds, style.SERIES, strict=False)):
            heights = found[kind].reindex(trained)
            places = np.arange(len(trained)) + 0.4 * (number - (len(kinds) - 1) / 2)
            axis.plot(places, heights, "o", color=colour, label=kind)
            for place, height in zip(places, heights, strict=True):
                axis.annotate(
                    f"{100 * height:.2f}", (place, height), (0, 5), textcoords="offset points",
                    ha="center", fontsize=8,
                )  # fmt: skip
        axis.set_xticks(range(len(trained)), trained)
        axis.set(title=f"{task} task", xlabel="trained with", xlim=(-0.5, len(trained) - 0.5))
    style.percent(fig.axes[0], "test accuracy (%)")
    fig.axes[0].margins(y=0.25)
    style.legend(fig)
    return fig


@figure("joules", "accuracy", "target_rate", "chip_bits", "chip_input", "front")
def loihi_front(frame: pd.DataFrame) -> Figure:
    """Validation accuracy against estimated energy of the deployments searched.

    Columns: ``joules``, mean dynamic energy of a sample (estimate by counts); ``accuracy``, mean
    over tasks, validation images; ``target_rate``, ``chip_bits``, ``chip_input``, what was varied;
    ``front``, whether nothing is both cheaper and better.
    """
    fig, axes = style.panels(1, 1, 7.5, 4)
    axis, markers = axes[0, 0], {"direct": "s", "differences": "o"}
    colours = dict(zip(sorted(frame["chip_bits"].unique()), style.SERIES, strict=False))
    for row in frame.itertuples():
        place, colour = (1e3 * row.joules, row.accuracy), colours[row.chip_bits]
        face = colour if row.front else "none"
        axis.plot(*place, markers[row.chip_input], color=colour, mfc=face)
        if row.front:
            above = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
            axis.annotate(f"{100 * row.target_rate:g} %", place, fontsize=8, **above)
    front = frame[frame["front"]].sort_values("joules")
    axis.plot(1e3 * front["joules"], front["accuracy"], color=style.GREY, zorder=0)
    axis.set(xscale="log", xlabel="dynamic energy per sample (mJ, estimate by counts)")
    style.percent(axis, "validation accuracy (%)")
    for formatting in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        formatting(LogFormatter())  # 0.7, not 7 x 10^-1
    axis.margins(y=0.1)
    handles = [Patch(color=colour, label=f"{bits}-bit weights") for bits, colour in colours.items()]
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
    fig, panels = style.side_by_side(frame, "task", 3.8, 3.2)
    for axis, task, of_task in panels:
        for number, rule in enumerate(frame["rule"].unique()):
            rows = of_task[of_task["rule"] == rule].sort_values("samples")
            look = {"color": style.SERIES[number], "marker": ".", "label": rule}
            dashes = (3, 2 + number) if number else (None, None)
            axis.plot(rows["samples"], rows["accuracy"], dashes=dashes, **look)
        axis.set(title=f"{task} task", xlabel="samples learned", ylim=(-0.03, 1.03))
    style.percent(fig.axes[0], "accuracy (%)")
    style.legend(fig)
    return fig
