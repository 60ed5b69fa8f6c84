"""Cost against size."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ltgate.figures import style
from ltgate.figures.figure import figure


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
    for row, quantity, colour in zip(axes, quantities, style.SERIES, strict=False):
        for axis, sweep in zip(row, sweeps, strict=True):
            curve = frame[(frame["quantity"] == quantity) & (frame["sweep"] == sweep)]
            if curve.empty:
                axis.axis("off")
                continue
            _curve(axis, curve.sort_values("x"), colour)
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


def _curve(axis: Axes, curve: pd.DataFrame, colour: str) -> None:
    x, y = curve["x"].to_numpy(float), curve["value"].to_numpy(float)
    k = curve["exponent"].iloc[0]
    fitted = np.exp(np.log(y).mean()) * (x / np.exp(np.log(x).mean())) ** k
    axis.plot(x, y, "o", color=colour, markersize=5)
    label = rf"$\propto x^{{{round(k, 2) + 0.0:.2f}}}$"
    axis.plot(x, fitted, color=colour, linewidth=1, label=label)
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
