"""How every figure looks, the list of figures, and the checks that all of them share.

One colour, one meaning: orange and blue are the fast and the slow compartment, a method has its own
in every figure of methods, and tasks are panels, not colours. Accuracies are drawn in percent.
"""

import functools
import io
import zlib
from collections.abc import Callable, Iterable

import matplotlib.axes
import matplotlib.figure
import matplotlib.style
import numpy as np
import pandas as pd
from seaborn.utils import relative_luminance

from ltgate.errors import UserError

# Okabe & Ito 2008, the eight colours (yellow darkened a little: it carries lines here).
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#D9C400", "#0072B2", "#D55E00", "#CC79A7"
GREY, DARK, BROWN, OLIVE = "#8C8C8C", "#444444", "#7A5230", "#7F7F00"

COMPARTMENTS = {"fast": VERMILION, "slow": BLUE}
SERIES = (GREEN, PURPLE, ORANGE, SKY, DARK, YELLOW, BROWN)  # anything else
MAP = "Blues"  # one hue, from light to dark: read by anyone, and numbers on it stay legible

# A method has the same name, colour, marker and place in every figure and table.
METHODS = {
    "lt_gate": ("LT-Gate", BLUE, "o"),
    "lt_gate_local": ("LT-Gate, local", SKY, "s"),
    "lt_gate_published": ("LT-Gate, as published", PURPLE, "D"),
    "single_tau": ("single tau, slow", YELLOW, "P"),
    "single_tau_fast": ("single tau, fast", OLIVE, "p"),
    "random_features": ("random features", BROWN, "<"),
    "nearest_mean": ("nearest class mean", "#A68064", "d"),
    "streaming_lda": ("streaming LDA", "#00573F", "h"),
    "hlop": ("HLOP", VERMILION, "^"),
    "dsd_snn": ("DSD-SNN", ORANGE, "v"),
    "replay": ("replay", GREEN, ">"),
    "sequential": ("sequential", GREY, "X"),
    "joint": ("joint", BLACK, "*"),
    # What may stand for a neuron's timescale: single ones in grey, gates in blue and green.
    "tau_5": ("5 ms", "#C4C4C4", "o"),
    "tau_10": ("10 ms", "#ABABAB", "s"),
    "tau_20": ("20 ms", "#8C8C8C", "^"),
    "tau_40": ("40 ms", "#606060", "v"),
    "tau_100": ("100 ms", BLACK, "D"),
    "tau_halves": ("half 5, half 100 ms", BROWN, "<"),
    "tau_log_uniform": ("log-uniform", "#A68064", ">"),
    "tau_of_rate": ("tau follows the rate", ORANGE, "P"),
    "either": ("two compartments, or", YELLOW, "X"),
    "blend_half": ("blend, half and half", OLIVE, "p"),
    "gate_quieter": ("published gate", PURPLE, "D"),
    "gate_teacher": ("gate by a teacher", SKY, "^"),
    "gate_static": ("set-point gate, static", BLUE, "s"),
    "gate_neuron": ("set-point gate, neuron", SKY, "s"),
    "gate_layer": ("set-point gate, layer", BLUE, "o"),
    "gate_three": ("set-point gate, 3 taus", GREEN, "^"),
    "gate_five": ("set-point gate, 5 taus", "#00573F", "v"),
    "gate_cue": ("told the speed", VERMILION, "*"),
    "gate_oracle": ("told the truth", VERMILION, "*"),
    "hlop_streams": ("HLOP", VERMILION, "^"),
    "surrogate": ("surrogate gradients", GREEN, "X"),
}
VARIANTS = {
    "base": "LT-Gate",
    "tau10": "5 and 50 ms",
    "tau20": "5 and 100 ms (as LT-Gate)",
    "tau100": "5 and 500 ms",
    "nofast": "slow compartment alone",
    "noslow": "fast compartment alone",
    "tau_50_200": "50 and 200 ms",
    "pulse": "frames as pulses on a 1 ms clock",
    "hold": "frames held on a 1 ms clock",
    "as_coded": "decays of 1 ms at any rate",
    "blend": "gate blends the membranes",
    "gamma_fixed": "blend, gate fixed at 0.5",
    "normalised_current": "normalised current",
    "no_homeostasis": "thresholds not calibrated",
    "random_filters": "random filters",
    "eta_half": "filters learn half as fast",
    "readout_dense": "readout of the dense layer",
    "readout_conv3": "readout of conv3",
    "readout_all": "readout of all layers",
    "projector_none": "delta rule, no projector",
    "projector_rank_k": "delta rule, projector of rank k",
    "always_none": "filters always learn, no projector",
    "always_rank1": "filters always learn, rank 1",
    "always_rank_k": "filters always learn, rank k",
}

RC = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.dpi": 100,
}


def method(name: str) -> tuple[str, str, str]:
    """Label, colour and marker of a method; an unlisted one keeps its name and gets a colour."""
    return METHODS.get(name, (name, SERIES[zlib.crc32(name.encode()) % len(SERIES)], "o"))


def ordered(names: Iterable[str]) -> list[str]:
    """Methods in their one order; unlisted ones come last, as they were given."""
    places = {name: place for place, name in enumerate(METHODS)}
    return sorted(dict.fromkeys(names), key=lambda name: places.get(name, len(places)))


def context():
    """Context in which figures are drawn and saved, whatever the user's own settings."""
    return matplotlib.style.context(["default", RC])


class Figure(matplotlib.figure.Figure):
    """A figure outside pyplot: no backend is touched, and a notebook shows it once.

    Attributes:
        moments: Of an animation, what to call for each of its pictures; the last leaves the figure
            as it was.
    """

    moments: tuple[Callable[[], object], ...] = ()

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def panels(
    rows: int, columns: int, width: float, height: float, **options: object
) -> tuple[Figure, np.ndarray]:
    """Figure of ``width`` x ``height`` inches and axes ``[rows, columns]``; options of subplots."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def side_by_side(
    frame: pd.DataFrame, column: str, width: float, height: float
) -> tuple[Figure, list[tuple[matplotlib.axes.Axes, str, pd.DataFrame]]]:
    """A panel for every value of a column: the figure, then axes, value and its rows."""
    names = list(frame[column].unique())
    fig, axes = panels(1, len(names), 1 + width * len(names), height, sharex=True, sharey=True)
    return fig, [
        (x, name, frame[frame[column] == name]) for x, name in zip(axes[0], names, strict=True)
    ]


def interval(mean: float, low: float, high: float, digits: int = 1) -> str:
    """A fraction and the half width of its interval, if it has one, in percent."""
    half = "" if np.isnan(low) else f" ± {50 * (high - low):.{digits}f}"
    return f"{100 * mean:.{digits}f}{half}"


def hundredths(value: float, position: int = 0) -> str:
    """0.985 as ``98.5``, for an axis in percent."""
    return f"{round(100 * value, 6):g}"


def percent(axis: matplotlib.axes.Axes, label: str) -> None:
    """Label an ordinate of fractions, in percent."""
    axis.set_ylabel(label)
    axis.yaxis.set_major_formatter(hundredths)


def legible(axis: matplotlib.axes.Axes) -> None:
    """Numbers on a seaborn heat map in black or white, whichever differs more from its cell."""
    cells = axis.collections[0].get_facecolors()
    columns = round(axis.get_xlim()[1])
    for text in axis.texts:
        x, y = text.get_position()
        light = relative_luminance(cells[int(y) * columns + int(x)])
        text.set_color("white" if light < 0.18 else "black")


def legend(fig: Figure, place: str = "outside lower center", **options: object) -> None:
    """One legend, of what is in the first panel, beside all of them."""
    handles, labels = fig.axes[0].get_legend_handles_labels()
    columns = len(labels) if "lower" in place else 1
    fig.legend(handles, labels, loc=place, ncols=columns, **options)


FIGURES: list[Callable[..., Figure]] = []
"""Every figure's one producer; a figure's file name is its producer's ``__name__``."""


def figure(*columns: str) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """Register ``producer(frame, ...) -> Figure``, which needs these ``columns`` of its frame.

    An empty frame or a missing column raises ``UserError``; the style is set for the call only.
    """

    def register(producer: Callable[..., Figure]) -> Callable[..., Figure]:
        name = producer.__name__

        @functools.wraps(producer)
        def draw(frame: pd.DataFrame, *arguments: object, **options: object) -> Figure:
            if missing := [column for column in columns if column not in frame]:
                raise UserError(
                    f"{name}: column {missing[0]!r} is missing; needed are {', '.join(columns)}"
                )
            if frame.empty:
                raise UserError(f"{name}: the frame is empty; at least one row is needed")
            with context():
                return producer(frame, *arguments, **options)

        draw.columns = columns
        FIGURES.append(draw)
        return draw

    return register
