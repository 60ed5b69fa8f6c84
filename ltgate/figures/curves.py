"""Learning over a sequence of tasks: curves and the accuracy matrix."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ltgate.figures import style
from ltgate.figures.figure import figure


@figure("method", "seed", "batch", "task", "accuracy", "boundary")
def learning_curves(frame: pd.DataFrame) -> Figure:
    """Accuracy on each task (a panel) while the sequence is learned: mean and range over seeds.

    Columns: ``method``; ``seed``; ``batch``, training batches so far; ``task``, the task tested;
    ``accuracy`` 0-1; ``boundary``, the batch at which a new task begins (NaN: none), the same for
    all rows or one value for each boundary.
    """
    tasks, methods = list(frame["task"].unique()), list(frame["method"].unique())
    fig, axes = style.panels(len(tasks), 1, 8.5, 1 + 2 * len(tasks), sharex=True)
    for axis, task in zip(axes[:, 0], tasks, strict=True):
        for name in methods:
            label, colour, marker = style.method(name)
            rows = frame[(frame["task"] == task) & (frame["method"] == name)]
            over_seeds = rows.groupby("batch")["accuracy"].agg(["mean", "min", "max"])
            every = max(1, len(over_seeds) // 8)
            axis.plot(
                over_seeds.index,
                over_seeds["mean"],
                color=colour,
                marker=marker,
                markevery=every,
                markersize=5,
                label=label,
            )
            axis.fill_between(
                over_seeds.index, over_seeds["min"], over_seeds["max"], color=colour, alpha=0.15
            )
        for number, batch in enumerate(frame["boundary"].dropna().unique()):
            label = None if number else "next task begins"
            axis.axvline(batch, color=style.DARK, linestyle=":", label=label)
        axis.set(title=f"tested on the {task} task", ylabel="accuracy", ylim=(-0.03, 1.03))
    axes[-1, 0].set_xlabel("training batch")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    return fig


@figure("method", "step", "task", "accuracy")
def r_heatmap(frame: pd.DataFrame) -> Figure:
    """Matrix R of every method (a panel): accuracy on each task after learning each task.

    Columns: ``method``; ``step``, index of the task learned last; ``task``, the task tested, in the
    order of learning; ``accuracy`` 0-1, averaged over the rows (seeds) of an entry.
    """
    methods, tasks = list(frame["method"].unique()), list(frame["task"].unique())
    columns = min(len(methods), 5)
    rows = -(-len(methods) // columns)
    cell = 0.75 * len(tasks)
    width = min(1 + (0.7 + cell) * columns, 11)
    fig, axes = style.panels(rows, columns, width, (0.9 + cell) * rows)
    for axis in axes.flat[len(methods) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, methods, strict=False):
        entries = frame[frame["method"] == name]
        R = entries.pivot_table(index="step", columns="task", values="accuracy", aggfunc="mean")
        sns.heatmap(
            R.reindex(columns=tasks),
            ax=axis,
            vmin=0,
            vmax=1,
            cmap=style.MAP,
            annot=True,
            fmt=".2f",
            square=True,
            linewidths=1,
            cbar=False,
            yticklabels=[f"after {tasks[step]}" for step in R.index],
        )
        style.legible(axis)
        axis.set(title=style.method(name)[0], xlabel="", ylabel="")
        axis.tick_params(length=0)
    fig.supxlabel("task tested", fontsize="medium")
    fig.colorbar(axes[0, 0].collections[0], ax=axes, label="accuracy", aspect=12 * rows)
    return fig
