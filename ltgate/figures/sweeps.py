"""One number over a range of settings."""

from numbers import Real

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import ScalarFormatter

from ltgate.errors import UserError
from ltgate.figures import style
from ltgate.figures.registry import figure


@figure("eta", "tau_ratio", "accuracy")
def grid_heatmap(frame: pd.DataFrame) -> Figure:
    """Validation accuracy over the grid, the best cell framed.

    Columns: ``eta``, learning rate; ``tau_ratio``, tau_slow / tau_fast; ``accuracy`` 0-1, averaged
    over the rows (seeds) of a cell. A setting that has not run stays empty.
    """
    grid = frame.pivot_table(index="eta", columns="tau_ratio", values="accuracy", aggfunc="mean")
    if grid.empty:
        raise UserError("grid_heatmap: accuracy holds no number; at least one is needed")
    rows, columns = grid.shape
    fig, axes = style.panels(1, 1, 2.4 + 0.9 * columns, 1.2 + 0.6 * rows)
    axis = axes[0, 0]
    sns.heatmap(
        grid,
        ax=axis,
        cmap=style.MAP,
        annot=True,
        fmt=".3f",
        linewidths=1,
        cbar_kws={"label": "validation accuracy"},
        xticklabels=[f"{value:g}" for value in grid.columns],
        yticklabels=[f"{value:g}" for value in grid.index],
    )
    eta, ratio = grid.stack().idxmax()
    corner = (grid.columns.get_loc(ratio), grid.index.get_loc(eta))
    axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=style.VERMILION, linewidth=2.5))
    axis.set(xlabel="tau_slow / tau_fast", ylabel="learning rate eta", title="framed: best")
    axis.tick_params(length=0)
    return fig


@figure("method", "trained_hz", "tested_hz", "presentation", "mean", "ci_low", "ci_high")
def robustness(frame: pd.DataFrame) -> Figure:
    """Accuracy against the test's frame rate (log), a panel a presentation, a line a method.

    ``frame`` is ``table_robustness``; ``mean`` and the 95 % interval in 0-1. Methods trained at
    several rates have a line for each, told apart by its dashes.
    """
    presentations = list(frame["presentation"].unique())
    rates = list(frame["trained_hz"].unique())
    dashes = ("-", "--", ":", "-.")
    width = 2.2 + 3.2 * len(presentations)
    fig, axes = style.panels(1, len(presentations), width, 3.4, sharey=True)
    for axis, presentation in zip(axes[0], presentations, strict=True):
        rows = frame[frame["presentation"] == presentation]
        for (name, rate), line in rows.groupby(["method", "trained_hz"], sort=False):
            label, colour, marker = style.method(name)
            line = line.sort_values("tested_hz")
            rate_text = f"{rate:g}" if isinstance(rate, Real) else str(rate)
            axis.plot(
                line["tested_hz"],
                line["mean"],
                color=colour,
                marker=marker,
                linestyle=dashes[rates.index(rate) % len(dashes)],
                label=f"{label}, {rate_text} Hz",
            )
            axis.fill_between(
                line["tested_hz"], line["ci_low"], line["ci_high"], color=colour, alpha=0.15
            )
        axis.set_xscale("log")
        ticks = sorted(rows["tested_hz"].unique())
        axis.set_xticks(ticks if len(ticks) <= 7 else ticks[:: -(-len(ticks) // 7)])
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.minorticks_off()
        axis.set(title=presentation, xlabel="frame rate at test (Hz)", ylim=(0, 1.02))
    axes[0, 0].set_ylabel("accuracy")
    unique = {}
    for axis in axes[0]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            unique.setdefault(label, handle)
    place = "outside right center"
    fig.legend(unique.values(), unique.keys(), title="method, trained at", loc=place)
    return fig
