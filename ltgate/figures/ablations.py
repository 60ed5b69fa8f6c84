"""What each part adds: variants of one method beside each other."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ltgate.figures import style
from ltgate.figures.comparison import MAIN, MEASURES, interval, measured
from ltgate.figures.figure import figure, one_setting


@figure("variant", *MAIN[:-1])
def ablations(frame: pd.DataFrame, scenario: str = "class") -> Figure:
    """ACC and forgetting of every variant; dotted: the first variant, which is the reference.

    ``frame`` is ``table_ablations``: ``variant``, then the columns of ``table_main``; one method,
    sequence and number of images at a time. Points are means (fractions 0-1), lines 95 %
    intervals; filled with the timescale cue, hollow without it (control).
    """
    rows = measured(frame, "ablations", scenario)
    one_setting(rows, "ablations", "method")
    variants = list(rows["variant"].unique())
    cues = [cue for cue in ("yes", "no") if cue in set(rows["cue"])]
    fig, axes = style.panels(1, 2, 8.5, 1.3 + 0.3 * len(variants), sharey=True)
    for axis, (metric, label) in zip(axes[0], MEASURES.items(), strict=True):
        for _, row in rows[rows["metric"] == metric].iterrows():
            number = variants.index(row["variant"])
            place = number + 0.3 * (cues.index(row["cue"]) - (len(cues) - 1) / 2)
            colour = style.BLUE if number else style.BLACK
            filled = row["cue"] == "yes"
            interval(axis, place, row, colour)
            axis.plot(row["mean"], place, "o", color=colour, mfc=colour if filled else "white")
            if number == 0:
                dots = ":" if filled else (0, (1, 4))
                axis.axvline(row["mean"], color=style.BLACK, linestyle=dots, linewidth=1, zorder=0)
        axis.set_xlabel(f"{label}, fraction")
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_xlim(right=1.02)  # intervals may pass 1, accuracies do not
    axes[0, 0].set_yticks(range(len(variants)), variants)
    axes[0, 0].invert_yaxis()
    look = {"marker": "o", "linestyle": "", "color": style.BLUE}
    handles = [
        Line2D([], [], label="with the timescale cue", **look),
        Line2D([], [], label="without (control)", mfc="white", **look),
    ]
    if len(cues) > 1:
        fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig
