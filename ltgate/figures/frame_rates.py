"""Accuracy at other frame rates than that of training."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ltgate.figures import style
from ltgate.figures.figure import figure

APART = 1.5  # least ratio of two labelled rates


@figure("method", "trained_hz", "tested_hz", "presentation", "mean", "ci_low", "ci_high")
def robustness(frame: pd.DataFrame) -> Figure:
    """Accuracy against the test's frame rate (log): a row a training rate, a column a presentation.

    ``frame`` is ``table_robustness``; ``mean`` and the 95 % interval in 0-1. A line a method; the
    training rate is dashed, a quarter to four times of it shaded.
    """
    presentations, rates = frame["presentation"].unique(), frame["trained_hz"].unique()
    legend = 0.2 + 0.19 * frame["method"].nunique()
    size = (2.0 + 3.0 * len(presentations), max(0.6 + 2.2 * len(rates), legend))
    fig, axes = style.panels(len(rates), len(presentations), *size, sharex=True, sharey=True)
    lines = {}
    for row, rate in zip(axes, rates, strict=True):
        for axis, presentation in zip(row, presentations, strict=True):
            chosen = (frame["trained_hz"] == rate) & (frame["presentation"] == presentation)
            for name, line in frame[chosen].groupby("method", sort=False):
                label, colour, marker = style.method(name)
                line = line.sort_values("tested_hz")
                x = line["tested_hz"]
                (drawn,) = axis.plot(x, line["mean"], color=colour, marker=marker, markersize=5)
                axis.fill_between(x, line["ci_low"], line["ci_high"], color=colour, alpha=0.15)
                lines.setdefault(label, drawn)
            axis.axvspan(rate / 4, rate * 4, color=style.GREY, alpha=0.12, linewidth=0)
            axis.axvline(rate, color=style.GREY, linestyle="--", linewidth=0.8)
            axis.set(xscale="log", title=f"trained at {rate:g} Hz, {presentation}")
        row[0].set_ylabel("accuracy")
    axes[0, 0].set_ylim(np.floor(10 * frame[["mean", "ci_low"]].min().min()) / 10, 1.01)
    ticks: list[float] = []
    for tested in sorted(frame["tested_hz"].unique()):
        if not ticks or tested > APART * ticks[-1]:
            ticks.append(tested)
    for axis in axes[-1]:
        axis.set_xlabel("frame rate at test (Hz)")
        axis.set_xticks(ticks)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    fig.legend(lines.values(), lines.keys(), loc="outside right center")
    return fig
