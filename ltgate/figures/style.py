"""How every figure looks: colours that colour-blind readers can tell apart, sizes, fonts."""

import io
import zlib

import matplotlib.axes
import matplotlib.figure
import matplotlib.style
import numpy as np
from seaborn.utils import relative_luminance

# Okabe & Ito 2008, the eight colours (yellow darkened a little: it carries lines here).
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#D9C400", "#0072B2", "#D55E00", "#CC79A7"
GREY, DARK = "#8C8C8C", "#444444"

# A method has the same name, colour and marker in every figure.
METHODS = {
    "lt_gate": ("LT-Gate", BLUE, "o"),
    "lt_gate_local": ("LT-Gate, local", SKY, "s"),
    "lt_gate_published": ("LT-Gate, as published", PURPLE, "D"),
    "hlop": ("HLOP", VERMILION, "^"),
    "dsd_snn": ("DSD-SNN", ORANGE, "v"),
    "sequential": ("sequential", GREY, "X"),
    "single_tau": ("single tau, slow", YELLOW, "P"),
    "single_tau_fast": ("single tau, fast", "#7F7F00", "p"),
    "random_features": ("random features", "#7A5230", "<"),
    "replay": ("replay", GREEN, ">"),
    "joint": ("joint", BLACK, "*"),
}
# What may stand for a neuron's timescale: single ones in grey, gates in blue and green.
TIMESCALES = {
    "tau_5": ("5 ms", "#C4C4C4", "o"),
    "tau_10": ("10 ms", "#ABABAB", "s"),
    "tau_20": ("20 ms", "#8C8C8C", "^"),
    "tau_40": ("40 ms", "#606060", "v"),
    "tau_100": ("100 ms", BLACK, "D"),
    "tau_halves": ("half 5, half 100 ms", "#7A5230", "<"),
    "tau_log_uniform": ("log-uniform", "#A68064", ">"),
    "tau_of_rate": ("tau follows the rate", ORANGE, "P"),
    "either": ("two compartments, or", YELLOW, "X"),
    "blend_half": ("blend, half and half", "#7F7F00", "p"),
    "gate_quieter": ("published gate", PURPLE, "D"),
    "gate_teacher": ("gate by a teacher", SKY, "^"),
    "gate_static": ("set-point gate, static", BLUE, "s"),
    "gate_neuron": ("set-point gate, neuron", SKY, "s"),
    "gate_layer": ("set-point gate, layer", BLUE, "o"),
    "gate_three": ("set-point gate, 3 taus", GREEN, "^"),
    "gate_five": ("set-point gate, 5 taus", "#00573F", "v"),
    "gate_cue": ("told the speed", VERMILION, "*"),
    "gate_oracle": ("told the truth", VERMILION, "*"),
}
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, DARK)  # tasks, rates, anything else
COMPARTMENTS = {"fast": VERMILION, "slow": BLUE}

MAP = "Blues"  # one hue, from light to dark: read by anyone, and numbers on it stay legible

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
    known = METHODS | TIMESCALES
    return known.get(name, (name, SERIES[zlib.crc32(name.encode()) % len(SERIES)], "o"))


def context():
    """Context in which figures are drawn and saved, whatever the user's own settings."""
    return matplotlib.style.context(["default", RC])


class Figure(matplotlib.figure.Figure):
    """A figure outside pyplot: no backend is touched, and a notebook shows it once."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def legible(axis: matplotlib.axes.Axes) -> None:
    """Numbers on a seaborn heat map in black or white, whichever differs more from its cell."""
    cells = axis.collections[0].get_facecolors()
    columns = round(axis.get_xlim()[1])
    for text in axis.texts:
        x, y = text.get_position()
        light = relative_luminance(cells[int(y) * columns + int(x)])
        text.set_color("white" if light < 0.18 else "black")


def panels(
    rows: int, columns: int, width: float, height: float, **options: object
) -> tuple[Figure, np.ndarray]:
    """Figure of ``width`` x ``height`` inches and axes ``[rows, columns]``; options of subplots."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
