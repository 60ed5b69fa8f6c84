"""One number over a range of settings."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

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
