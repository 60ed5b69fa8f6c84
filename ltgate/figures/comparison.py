"""Methods and variants beside each other, with intervals."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ltgate.errors import UserError
from ltgate.figures import style
from ltgate.figures.registry import figure, one_setting

_MEASURES = {"acc": "average accuracy (ACC)", "forgetting": "forgetting"}
_MAIN = ("method", "scenario", "sequence", "cue", "metric", "mean", "ci_low", "ci_high", "paper")


@figure(*_MAIN)
def acc_forgetting_bars(frame: pd.DataFrame, scenario: str = "class") -> Figure:
    """ACC and forgetting of every method with and without the timescale cue, beside the paper's.

    ``frame`` is ``table_main`` (``results.summarise``) of one sequence and number of images. Bars
    are means (fractions 0-1), lines 95 % intervals, diamonds what the paper reports.
    """
    rows = _measured(frame, "acc_forgetting_bars", scenario)
    methods = list(rows["method"].unique())
    cues = [cue for cue in ("yes", "no") if cue in set(rows["cue"])]
    height = 0.8 / len(cues)
    fig, axes = style.panels(1, 2, 9, 1.2 + 0.5 * len(methods), sharey=True)
    for axis, (metric, label) in zip(axes[0], _MEASURES.items(), strict=True):
        for _, row in rows[rows["metric"] == metric].iterrows():
            solid = row["cue"] == "yes"
            colour = style.method(row["method"])[1]
            place = methods.index(row["method"])
            place += (cues.index(row["cue"]) - (len(cues) - 1) / 2) * height
            look = {"color": colour} if solid else {"facecolor": "white", "hatch": "/////"}
            axis.barh(place, row["mean"], height * 0.92, edgecolor=colour, **look)
            _interval(axis, place, row)
            if not np.isnan(row["paper"]):
                axis.plot(row["paper"], place, "D", color="white", markeredgecolor="black", ms=6)
        axis.set_xlabel(f"{label}, fraction")
        axis.axvline(0, color=style.DARK, linewidth=0.8)
    axes[0, 0].set_xlim(0, 1)
    axes[0, 0].set_yticks(range(len(methods)), [style.method(name)[0] for name in methods])
    axes[0, 0].invert_yaxis()
    handles = [
        Patch(facecolor=style.GREY, edgecolor=style.GREY, label="with the timescale cue"),
        Patch(facecolor="white", edgecolor=style.GREY, hatch="/////", label="without (control)"),
        Line2D([], [], color="black", marker="|", label="95 % interval"),
        Line2D([], [], color="white", marker="D", markeredgecolor="black", label="paper"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig


@figure("variant", *_MAIN[:-1])
def ablations(frame: pd.DataFrame, scenario: str = "class") -> Figure:
    """ACC and forgetting of every variant; dotted: the first variant, which is the reference.

    ``frame`` is ``table_ablations``: ``variant``, then the columns of ``table_main``; one method,
    sequence, cue and number of images at a time. Points are means (fractions 0-1), lines 95 %
    intervals.
    """
    rows = _measured(frame, "ablations", scenario)
    one_setting(rows, "ablations", "method", "cue")
    variants = list(rows["variant"].unique())
    fig, axes = style.panels(1, 2, 8.5, 1 + 0.32 * len(variants), sharey=True)
    for axis, (metric, label) in zip(axes[0], _MEASURES.items(), strict=True):
        for _, row in rows[rows["metric"] == metric].iterrows():
            place = variants.index(row["variant"])
            colour = style.BLUE if place else style.BLACK
            _interval(axis, place, row, colour)
            axis.plot(row["mean"], place, "o", color=colour)
            if place == 0:
                axis.axvline(row["mean"], color=style.BLACK, linestyle=":", linewidth=1, zorder=0)
        axis.set_xlabel(f"{label}, fraction")
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_yticks(range(len(variants)), variants)
    axes[0, 0].invert_yaxis()
    return fig


def _measured(frame: pd.DataFrame, name: str, scenario: str) -> pd.DataFrame:
    """Rows of ACC and forgetting in one scenario, sequence and number of images."""
    rows = frame[frame["metric"].isin(list(_MEASURES)) & (frame["scenario"] == scenario)]
    if rows.empty:
        found = ", ".join(map(str, frame["scenario"].unique()))
        raise UserError(f"{name}: no acc or forgetting of scenario {scenario!r}; there: {found}")
    one_setting(rows, name, "sequence", "train_images")
    return rows


def _interval(axis: Axes, place: float, row: pd.Series, colour: str = "black") -> None:
    if not np.isnan(row["ci_low"]):
        ends = [row["ci_low"], row["ci_high"]]
        axis.plot(ends, [place, place], color=colour, marker="|", linewidth=1.2)
