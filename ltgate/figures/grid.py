"""What a grid found, over two axes and along each of many; and what size costs."""

from numbers import Real

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from ltgate import metrics
from ltgate.errors import UserError
from ltgate.figures import style
from ltgate.figures.style import figure

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
    names = {"xticklabels": map(_label, grid.columns), "yticklabels": map(_label, grid.index)}
    names = {side: list(labels) for side, labels in names.items()}
    sns.heatmap(grid, ax=axis, cmap=style.MAP, annot=told, fmt="", linewidths=1, **names)
    style.legible(axis)
    style.percent(fig.axes[-1], "validation accuracy (%)")
    best_y, best_x = grid.stack().idxmax()
    corner = (grid.columns.get_loc(best_x), grid.index.get_loc(best_y))
    axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=style.ORANGE, linewidth=2.5))
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
    for axis in axes[:, 0]:
        style.percent(axis, "validation accuracy (%)")
    return fig


def _slice(axis: Axes, part: pd.DataFrame) -> None:
    part = part.dropna(subset="accuracy")
    if all(isinstance(value, Real) for value in part["value"]):
        x = part["value"].astype(float)
        if len(x) and x.min() > 0 and x.max() / x.min() >= 5:
            axis.set_xscale("log")
        if 0 < x.nunique() < 5:
            axis.set_xticks(sorted(set(x)), [f"{value:g}" for value in sorted(set(x))])
            axis.xaxis.set_minor_locator(NullLocator())
    else:
        labels = list(dict.fromkeys(part["value"].map(str)))
        x = part["value"].map(str).map(labels.index)
        axis.set_xticks(range(len(labels)), labels, rotation=30)
    axis.plot(x, part["accuracy"], "o", color=style.DARK, alpha=0.6, markersize=4)
    best = part["accuracy"].groupby(x).max()
    if 1 < len(best) < len(part):
        axis.plot(best.index, best, color=style.ORANGE, linewidth=1)


def _told(values: pd.Series) -> str:
    """Mean and half width of the interval in percent, in a cell."""
    return style.interval(*metrics.mean_interval(values)).replace(" ±", "\n±")


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, Real) else str(value)


@figure("sweep", "x", "quantity", "value", "unit", "exponent")
def scaling(frame: pd.DataFrame) -> Figure:
    """Each quantity (a row of panels) against each size (a column), both logarithmic.

    Columns: ``sweep``, what is varied; ``x``, its size; ``quantity`` (time, memory) and ``value``
    in ``unit``; ``exponent`` k, the same for a whole curve. The line is size^k through the points'
    geometric mean.
    """
    sweeps, quantities = list(frame["sweep"].unique()), list(frame["quantity"].unique())
    size = (1.0 + 1.65 * len(sweeps), 0.6 + 2.2 * len(quantities))
    fig, axes = style.panels(len(quantities), len(sweeps), *size, sharex="col")
    for row, quantity in zip(axes, quantities, strict=True):
        for axis, sweep in zip(row, sweeps, strict=True):
            curve = frame[(frame["quantity"] == quantity) & (frame["sweep"] == sweep)]
            if curve.empty:
                axis.axis("off")
                continue
            _curve(axis, curve.sort_values("x"))
        unit = frame.loc[frame["quantity"] == quantity, "unit"].iloc[0]
        row[0].set_ylabel(f"{quantity} ({unit})")
    for column, sweep in zip(axes.T, sweeps, strict=True):
        lowest = [axis for axis in column if axis.axison][-1]
        lowest.set_xlabel(sweep)
        lowest.tick_params(labelbottom=True)
    return fig


def _short(value: float, position: int = 0) -> str:
    """1024 as ``1.0k``, so that neighbours do not touch."""
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:g}"


def _curve(axis: Axes, curve: pd.DataFrame) -> None:
    x, y = curve["x"].to_numpy(float), curve["value"].to_numpy(float)
    k = curve["exponent"].iloc[0]
    fitted = np.exp(np.log(y).mean()) * (x / np.exp(np.log(x).mean())) ** k
    axis.plot(x, y, "o", color=style.DARK, markersize=5)
    label = rf"$\propto x^{{{round(k, 2) + 0.0:.2f}}}$"
    axis.plot(x, fitted, color=style.GREY, linewidth=1, label=label)
    axis.set(xscale="log", yscale="log")
    # Flat curves stay flat: at least a factor of ten is shown.
    middle = np.sqrt(y.min() * y.max())
    reach = max(y.max() / middle, 10**0.5) * 1.3
    axis.set_ylim(middle / reach, middle * reach)
    axis.set_xticks(x)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(_short)
        side.set_minor_locator(NullLocator())
    axis.legend(loc="upper left", handlelength=1)
