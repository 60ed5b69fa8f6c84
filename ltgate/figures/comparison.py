"""Methods beside each other: accuracy, forgetting, curves, matrices, other frame rates."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from ltgate.errors import UserError
from ltgate.figures import style
from ltgate.figures.style import figure

MEASURES = {"acc": ("average accuracy (ACC, %)", 0), "forgetting": ("forgetting (points)", -1)}
MAIN = ("method", "scenario", "sequence", "cue", "metric", "mean", "ci_low", "ci_high")
CUES = {"yes": "with the timescale cue", "no": "without (control)"}
SPEEDS = {"yes": "tasks at speeds of their own", "no": "all at the first one's (control)"}
APART = 1.5  # least ratio of two labelled rates


@figure(*MAIN, "paper")
def acc_forgetting_bars(frame: pd.DataFrame, scenario: str = "class") -> Figure:
    """ACC and forgetting of every method with and without the timescale cue, beside the paper's.

    ``frame`` is ``table_main`` (``results.summarise``) of one sequence and number of images. Dots
    are means, lines 95 % intervals, diamonds what the paper reports.
    """
    rows = _measured(frame, "acc_forgetting_bars", scenario)
    looks = {name: style.method(name)[:2] for name in style.ordered(rows["method"])}
    return _dots(rows, "method", looks)


@figure("variant", *MAIN)
def ablations(frame: pd.DataFrame, scenario: str = "class") -> Figure:
    """ACC and forgetting of every variant; dotted: the first variant, which is the reference.

    ``frame`` is ``table_ablations``: ``variant``, then the columns of ``table_main``; one method,
    sequence and number of images at a time.
    """
    rows = _measured(frame, "ablations", scenario, "method")
    colours = [style.BLACK] + [style.BLUE] * rows["variant"].nunique()
    names = zip(rows["variant"].unique(), colours, strict=False)
    looks = {name: (style.VARIANTS.get(name, name), colour) for name, colour in names}
    return _dots(rows.assign(paper=np.nan), "variant", looks, next(iter(looks)))


def _measured(frame: pd.DataFrame, name: str, scenario: str, *one: str) -> pd.DataFrame:
    """Rows of ACC and forgetting in one scenario, sequence and number of images."""
    rows = frame[frame["metric"].isin(list(MEASURES)) & (frame["scenario"] == scenario)]
    if rows.empty:
        found = ", ".join(map(str, frame["scenario"].unique()))
        raise UserError(f"{name}: no acc or forgetting of scenario {scenario!r}; there: {found}")
    for column in ("sequence", "train_images", *one):
        if column in rows and (count := rows[column].nunique()) > 1:
            values = ", ".join(map(str, rows[column].unique()))
            raise UserError(
                f"{name}: {count} values of {column} ({values}); allowed is one: choose it before"
            )
    return rows


def _dots(
    rows: pd.DataFrame, column: str, looks: dict[str, tuple[str, str]], reference: str = ""
) -> Figure:
    """Dots and intervals, a line a value of ``column``: label and colour are its ``looks``."""
    names, cues = list(looks), [cue for cue in CUES if cue in set(rows["cue"])]
    shift = {cue: 0.3 * (number - (len(cues) - 1) / 2) for number, cue in enumerate(cues)}
    rows = rows.assign(place=rows[column].map(names.index) + rows["cue"].map(shift))
    drawn = [(x, part) for x in MEASURES for part in _parts(rows[rows["metric"] == x], x)]
    widths = {x: sum(high - low for m, (low, high) in drawn if m == x) for x in MEASURES}
    ratios = [max(0.2, (high - low) / widths[x]) for x, (low, high) in drawn]
    size = (9, 1.3 + 0.3 * len(names))
    fig, axes = style.panels(1, len(drawn), *size, sharey=True, width_ratios=ratios)
    for number, (metric, limits) in enumerate(drawn):
        axis, ratio = axes[0, number], ratios[number]
        for _, row in rows[rows["metric"] == metric].iterrows():
            _dot(axis, row, looks[row[column]][1], row[column] == reference)
        axis.set_xlim(limits)
        axis.xaxis.set_major_formatter(style.hundredths)
        ticks = MaxNLocator(max(1, round(6 * ratio)), min_n_ticks=1, steps=[1, 2, 5, 10])
        axis.xaxis.set_major_locator(ticks)
        axis.grid(axis="y", color="0.9")
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
        if number and metric == drawn[number - 1][0]:
            _break(axes[0, number - 1], axis)
        if ratio == max(r for r, (m, _) in zip(ratios, drawn, strict=True) if m == metric):
            axis.set_xlabel(MEASURES[metric][0])
    axes[0, 0].set_yticks(range(len(names)), [label for label, _ in looks.values()])
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    _legend(fig, rows, cues)
    return fig


def _legend(fig: Figure, rows: pd.DataFrame, cues: list[str]) -> None:
    words = SPEEDS if rows["scenario"].iloc[0] == "domain" else CUES
    look = {"color": style.GREY, "linewidth": 1.8}
    faces = {"yes": style.GREY, "no": "white"}
    handles = [Line2D([], [], marker="o", mfc=faces[x], label=words[x], **look) for x in cues]
    if rows["paper"].notna().any():
        diamond = {"marker": "D", "color": style.DARK, "mfc": "none", "ls": ""}
        handles.append(Line2D([], [], label="paper", **diamond))
    if rows["ci_low"].notna().any():
        handles.append(Line2D([], [], label="95 % interval", **look))
    fig.legend(handles=handles, loc="outside lower center", ncols=4)


def _dot(axis: Axes, row: pd.Series, colour: str, reference: bool) -> None:
    """Mean (filled with the cue, hollow without), interval, the paper's value."""
    place, filled = row["place"], row["cue"] == "yes"
    axis.plot(_interval(row, row["metric"]), [place, place], color=colour, linewidth=1.8)
    face = colour if filled else "white"
    axis.plot(row["mean"], place, "o", color=colour, mfc=face, markersize=5.5)
    axis.plot(row["paper"], place, "D", color=style.DARK, mfc="none", markersize=6)
    if reference:
        dots = ":" if filled else (0, (1, 4))
        axis.axvline(row["mean"], color=style.BLACK, ls=dots, linewidth=1, zorder=0)


def _break(left: Axes, right: Axes) -> None:
    """Mark that an axis goes on elsewhere."""
    slash = {"marker": [(-0.5, -1), (0.5, 1)], "color": "k", "clip_on": False, "markersize": 9}
    for axis, x in ((left, 1), (right, 0)):
        axis.plot([x], [0], transform=axis.transAxes, ls="", **slash)
    right.spines["left"].set_visible(False)


def _interval(row: pd.Series, metric: str) -> np.ndarray:
    """The 95 % interval, within what is possible."""
    return np.clip(row[["ci_low", "ci_high"]].to_numpy(float), MEASURES[metric][1], 1)


def _parts(rows: pd.DataFrame, metric: str) -> list[tuple[float, float]]:
    """Limits of an axis, or of its two parts where most of it would be empty."""
    spans = [np.nan_to_num(_interval(row, metric), nan=row["mean"]) for _, row in rows.iterrows()]
    spans += [np.array([told, told]) for told in rows["paper"].dropna()]
    spans = np.array(sorted(map(tuple, spans)))
    reached = np.maximum.accumulate(spans[:, 1])
    gaps = spans[1:, 0] - reached[:-1]
    parts = [(spans[0, 0], reached[-1])]
    if len(gaps) and gaps.max() > 0.5 * (reached[-1] - spans[0, 0]):
        cut = gaps.argmax()
        parts = [(spans[0, 0], reached[cut]), (spans[cut + 1, 0], reached[-1])]
    pad = max(0.002, 0.08 * max(high - low for low, high in parts))
    return [(low - pad, high + pad) for low, high in parts]


@figure("method", "seed", "batch", "task", "accuracy", "boundary")
def learning_curves(frame: pd.DataFrame) -> Figure:
    """Accuracy on each task (a panel) while the sequence is learned: mean and range over seeds.

    Columns: ``method``; ``seed``; ``batch``, training batches so far; ``task``, the task tested;
    ``accuracy`` 0-1; ``boundary``, the batch at which a new task begins (NaN: none), the same for
    all rows or one value for each boundary.
    """
    tasks = list(frame["task"].unique())
    fig, axes = style.panels(len(tasks), 1, 8.5, 1 + 2 * len(tasks), sharex=True, sharey=True)
    for axis, task in zip(axes[:, 0], tasks, strict=True):
        for name in style.ordered(frame["method"]):
            rows = frame[(frame["task"] == task) & (frame["method"] == name)]
            over_seeds = rows.groupby("batch")["accuracy"].agg(["mean", "min", "max"])
            _line(axis, name, over_seeds, "mean", "min", "max")
        for number, batch in enumerate(frame["boundary"].dropna().unique()):
            label = None if number else "next task begins"
            axis.axvline(batch, color=style.DARK, linestyle=":", label=label)
        axis.set_title(f"tested on the {task} task")
    _from(axes, frame["accuracy"].min())
    axes[-1, 0].set_xlabel("training batch")
    style.legend(fig, "outside right center")
    return fig


@figure("method", "trained_hz", "tested_hz", "presentation", "mean", "ci_low", "ci_high")
def robustness(frame: pd.DataFrame) -> Figure:
    """Accuracy against the test's frame rate (log): a row a training rate, a column a presentation.

    ``frame`` is ``table_robustness``; ``mean`` and the 95 % interval in 0-1. A line a method; the
    training rate is dashed, a quarter to four times of it shaded.
    """
    frame = frame.assign(ci_high=frame["ci_high"].clip(upper=1))
    presentations, rates = frame["presentation"].unique(), frame["trained_hz"].unique()
    legend = 0.2 + 0.19 * frame["method"].nunique()
    size = (2.0 + 3.0 * len(presentations), max(0.6 + 2.2 * len(rates), legend))
    fig, axes = style.panels(len(rates), len(presentations), *size, sharex="row", sharey=True)
    lines: dict[str, Line2D] = {}
    for row, rate in zip(axes, rates, strict=True):
        ticks: list[float] = []
        for tested in sorted(frame.loc[frame["trained_hz"] == rate, "tested_hz"].unique()):
            if not ticks or tested > APART * ticks[-1]:
                ticks.append(tested)
        for axis, presentation in zip(row, presentations, strict=True):
            chosen = frame[(frame["presentation"] == presentation) & (frame["trained_hz"] == rate)]
            for name in style.ordered(chosen["method"]):
                line = chosen[chosen["method"] == name].sort_values("tested_hz")
                line = line.set_index("tested_hz").assign(
                    ci_high=line["ci_high"].clip(upper=1).to_numpy()
                )
                lines.setdefault(name, _line(axis, name, line, "mean", "ci_low", "ci_high"))
            axis.axvspan(rate / 4, rate * 4, color=style.GREY, alpha=0.12, linewidth=0)
            axis.axvline(rate, color=style.GREY, linestyle="--", linewidth=0.8)
            axis.set(xscale="log", title=f"trained at {rate:g} Hz, {presentation}")
            axis.set_xticks(ticks)
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_locator(NullLocator())
    _from(axes, frame[["mean", "ci_low"]].min().min())
    for axis in axes[-1]:
        axis.set_xlabel("frame rate at test (Hz)")
    shown = [lines[name] for name in style.ordered(lines)]
    fig.legend(handles=shown, loc="outside right center")
    return fig


def _line(axis: Axes, name: str, points: pd.DataFrame, middle: str, low: str, high: str) -> Line2D:
    """A method's line over the index of ``points``, with its band."""
    label, colour, marker = style.method(name)
    every = max(1, len(points) // 8)
    look = {"color": colour, "marker": marker, "markevery": every, "markersize": 5}
    (line,) = axis.plot(points.index, points[middle], label=label, **look)
    axis.fill_between(points.index, points[low], points[high], color=colour, alpha=0.15)
    return line


def _from(axes: np.ndarray, least: float) -> None:
    """Accuracies in percent, from the tens below the least to 100, on axes that share a scale."""
    for axis in axes[:, 0]:
        style.percent(axis, "accuracy (%)")
    axes[0, 0].set_ylim(np.floor(10 * max(0, least)) / 10 - 0.01, 1.01)


@figure("method", "step", "task", "accuracy")
def r_heatmap(frame: pd.DataFrame) -> Figure:
    """Matrix R of every method (a panel): accuracy on each task after learning each task.

    Columns: ``method``; ``step``, index of the task learned last; ``task``, the task tested, in the
    order of learning; ``accuracy`` 0-1, averaged over the rows (seeds) of an entry.
    """
    tasks = list(frame["task"].unique())
    tables = {}
    for name in style.ordered(frame["method"]):
        entries = frame[frame["method"] == name]
        R = entries.pivot_table(index="step", columns="task", values="accuracy", aggfunc="mean")
        R.index = [f"after {tasks[step]}" for step in R.index]
        tables[name] = R.reindex(columns=tasks)
    return _matrices(tables, "task tested", min(0.75, 2.6 / len(tasks)), "accuracy (%)", places=1)


@figure("method", "truth", "told", "share")
def confusion(frame: pd.DataFrame) -> Figure:
    """Which class was told for each class, after all tasks: a panel a method.

    Columns: ``method``; ``truth``; ``told``; ``share`` of the class's images, 0-1.
    """
    tables = {
        name: part.pivot_table(index="truth", columns="told", values="share")
        for name, part in frame.groupby("method", sort=False)
    }
    tables = {name: tables[name].rename_axis(index=None) for name in style.ordered(tables)}
    fig = _matrices(tables, "class told", 0.36, "share of the class (%)")
    fig.axes[0].set_ylabel("class shown")
    return fig


def _matrices(
    tables: dict[str, pd.DataFrame], below: str, cell: float, told: str, places: int = 0
) -> Figure:
    """Matrices of fractions, numbers in their cells in percent (none where they are 0)."""
    least = 0.005 / 10**places
    side = cell * max(len(table.columns) for table in tables.values())
    columns = min(len(tables), max(1, int(11 / (side + 0.7))))
    rows = -(-len(tables) // columns)
    width = min(1 + (0.7 + side) * columns, 11)
    fig, axes = style.panels(rows, columns, width, (0.9 + side) * rows)
    fig.set_layout_engine("compressed")  # the cells are squares
    for axis in axes.flat[len(tables) :]:
        axis.axis("off")
    for axis, (name, table) in zip(axes.flat, tables.items(), strict=False):
        look = {"vmin": 0, "vmax": 1, "cmap": style.MAP, "square": True, "linewidths": 1}
        texts = table.map(lambda share: f"{100 * share:.{places}f}" if share >= least else "")
        sns.heatmap(table, ax=axis, annot=texts, fmt="", cbar=False, **look)
        style.legible(axis)
        axis.set(title=style.method(name)[0], xlabel="", ylabel="")
        axis.tick_params(length=0)
        axis.tick_params(axis="y", rotation=0)
    for number, axis in enumerate(axes.flat):
        if number % columns:
            axis.set_yticks([])
    fig.supxlabel(below, fontsize="medium")
    bar = fig.colorbar(axes[0, 0].collections[0], ax=axes, aspect=12 * rows)
    style.percent(bar.ax, told)
    return fig
