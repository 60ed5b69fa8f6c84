"""What a grid found: over two axes, and along each of many."""

from numbers import Real

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ltgate import metrics
from ltgate.errors import UserError
from ltgate.figures import style
from ltgate.figures.figure import figure

_AXES = {"tau_ratio": "tau_slow / tau_fast", "eta": "learning rate eta"}


@figure("accuracy")
def grid_heatmap(frame: pd.DataFrame, x: str = "tau_ratio", y: str = "eta") -> Figure:
    """Validation accuracy over two axes of a grid, with 95 % intervals; the best cell framed.

    Columns: ``x`` and ``y``, by default ``tau_ratio`` (tau_slow / tau_fast) and ``eta`` (learning
    rate); ``accuracy`` 0-1, one row per seed of a cell. A setting that has not run stays empty.
    """
    if missing := [name for name in (x, y) if name not in frame]:
        raise UserError(f"grid_heatmap: column {missing[0]!r} is missing; needed are {x}, {y}")
    grid = frame.pivot_table(index=y, columns=x, values="accuracy", aggfunc="mean")
    if grid.empty:
        raise UserError("grid_heatmap: accuracy holds no number; at least one is needed")
    told = frame.pivot_table(index=y, columns=x, values="accuracy", aggfunc=_told)
    rows, columns = grid.shape
    fig, axes = style.panels(1, 1, 2.4 + 1.1 * columns, 1.2 + 0.7 * rows)
    axis = axes[0, 0]
    sns.heatmap(
        grid,
        ax=axis,
        cmap=style.MAP,
        annot=told,
        fmt="",
        linewidths=1,
        cbar_kws={"label": "validation accuracy"},
        xticklabels=[_label(value) for value in grid.columns],
        yticklabels=[_label(value) for value in grid.index],
    )
    style.legible(axis)
    best_y, best_x = grid.stack().idxmax()
    corner = (grid.columns.get_loc(best_x), grid.index.get_loc(best_y))
    axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=style.VERMILION, linewidth=2.5))
    axis.set(xlabel=_AXES.get(x, x), ylabel=_AXES.get(y, y), title="framed: best")
    axis.tick_params(length=0)
    return fig


@figure("axis", "value", "accuracy")
def grid_slices(frame: pd.DataFrame) -> Figure:
    """Validation accuracy along every axis of a grid (a panel): all others vary.

    Columns: ``axis``; ``value``, a number or a text; ``accuracy`` 0-1: one row per configuration
    and axis. Points are configurations, the line joins the best of each value where values repeat.
    """
    names = list(frame["axis"].unique())
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    fig, axes = style.panels(rows, columns, 1 + 2.4 * columns, 0.8 + 2.2 * rows, sharey=True)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        _slice(axis, frame[frame["axis"] == name])
        axis.set_xlabel(_AXES.get(name, name))
    for row in axes:
        row[0].set_ylabel("validation accuracy")
    return fig


def _slice(axis: Axes, part: pd.DataFrame) -> None:
    part = part.dropna(subset="accuracy")
    numbers = all(isinstance(value, Real) for value in part["value"])
    if numbers:
        x = part["value"].astype(float)
        if len(x) and x.min() > 0 and x.max() / x.min() >= 5:
            axis.set_xscale("log")
    else:
        labels = list(dict.fromkeys(part["value"].map(str)))
        x = part["value"].map(str).map(labels.index)
        axis.set_xticks(range(len(labels)), labels, rotation=30)
    axis.plot(x, part["accuracy"], "o", color=style.BLUE, alpha=0.6, markersize=4)
    best = part["accuracy"].groupby(x).max()
    if 1 < len(best) < len(part):
        axis.plot(best.index, best, color=style.VERMILION, linewidth=1)


def _told(values: pd.Series) -> str:
    """Mean and half width of the interval, in a cell."""
    mean, low, high = metrics.mean_interval(values)
    return f"{mean:.3f}" + ("" if np.isnan(low) else f"\n± {(high - low) / 2:.3f}")


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, Real) else str(value)
