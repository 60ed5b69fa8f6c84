"""Methods beside each other, with intervals."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ltgate.errors import UserError
from ltgate.figures import style
from ltgate.figures.figure import figure, one_setting

MEASURES = {"acc": "average accuracy (ACC)", "forgetting": "forgetting"}
MAIN = ("method", "scenario", "sequence", "cue", "metric", "mean", "ci_low", "ci_high", "paper")


@figure(*MAIN)
def acc_forgetting_bars(frame: pd.DataFrame, scenario: str = "class") -> Figure:
    """ACC and forgetting of every method with and without the timescale cue, beside the paper's.

    ``frame`` is ``table_main`` (``results.summarise``) of one sequence and number of images. Bars
    are means (fractions 0-1), lines 95 % intervals, diamonds what the paper reports.
    """
    rows = measured(frame, "acc_forgetting_bars", scenario)
    methods = list(rows["method"].unique())
    cues = [cue for cue in ("yes", "no") if cue in set(rows["cue"])]
    height = 0.8 / len(cues)
    fig, axes = style.panels(1, 2, 9, 1.2 + 0.5 * len(methods), sharey=True)
    for axis, (metric, label) in zip(axes[0], MEASURES.items(), strict=True):
        for _, row in rows[rows["metric"] == metric].iterrows():
            solid = row["cue"] == "yes"
            colour = style.method(row["method"])[1]
            place = methods.index(row["method"])
            place += (cues.index(row["cue"]) - (len(cues) - 1) / 2) * height
            look = {"color": colour} if solid else {"facecolor": "white", "hatch": "/////"}
            axis.barh(place, row["mean"], height * 0.92, edgecolor=colour, **look)
            interval(axis, place, row)
            if not np.isnan(row["paper"]):
                axis.plot(row["paper"], place, "D", color="white", markeredgecolor="black", ms=6)
        axis.set_xlabel(f"{label}, fraction")
        axis.axvline(0, color=style.DARK, linewidth=0.8)
    axes[0, 0].set_xlim(0, 1)
    axes[0, 0].set_yticks(range(len(methods)), [style.method(name)[0] for name in methods])
    axes[0, 0].invert_yaxis()
    handles = [Line2D([], [], color="black", marker="|", label="95 % interval")]
    if len(cues) > 1:
        words = ("with the timescale cue", "without (control)")
        if scenario == "domain":
            words = ("tasks at speeds of their own", "all at the first one's (control)")
        both = dict(zip(words, (style.GREY, "white"), strict=True))
        handles += [
            Patch(facecolor=colour, edgecolor=style.GREY, hatch="/////" * (number > 0), label=label)
            for number, (label, colour) in enumerate(both.items())
        ]
    if rows["paper"].notna().any():
        diamond = {"marker": "D", "markeredgecolor": "black"}
        handles.append(Line2D([], [], color="white", label="paper", **diamond))
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig


def measured(frame: pd.DataFrame, name: str, scenario: str) -> pd.DataFrame:
    """Rows of ACC and forgetting in one scenario, sequence and number of images."""
    rows = frame[frame["metric"].isin(list(MEASURES)) & (frame["scenario"] == scenario)]
    if rows.empty:
        found = ", ".join(map(str, frame["scenario"].unique()))
        raise UserError(f"{name}: no acc or forgetting of scenario {scenario!r}; there: {found}")
    one_setting(rows, name, "sequence", "train_images")
    return rows


def interval(axis: Axes, place: float, row: pd.Series, colour: str = "black") -> None:
    """The 95 % interval of a row as a line at ``place``, if it has one."""
    if not np.isnan(row["ci_low"]):
        ends = [row["ci_low"], row["ci_high"]]
        axis.plot(ends, [place, place], color=colour, marker="|", linewidth=1.2)
