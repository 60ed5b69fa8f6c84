"""The network and its neuron, drawn as they are."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ltgate.figures import style
from ltgate.figures.style import figure

ARROW = {"arrowstyle": "-|>", "color": style.DARK, "shrinkA": 0, "shrinkB": 0}


@figure("layer", "shape", "neurons", "compartments", "spike", "read")
def network_diagram(frame: pd.DataFrame) -> Figure:
    """Layers from the input to the readout, and what one of their neurons does.

    One row a layer, the input first: ``layer``, its name; ``shape``, (channels, height, width);
    ``neurons``, their number; ``compartments``, names and time constants (ms); ``spike``, the
    rule by which they make one; ``read``, what of its counts the readout takes, or nothing.
    """
    fig = style.Figure(figsize=(8, 3.4), layout="constrained")
    layers, neuron = fig.subplots(2, 1, height_ratios=(4, 3))
    for axis, name in ((layers, "network"), (neuron, "one neuron")):
        axis.spines[:].set_visible(False)
        axis.set(xticks=[], yticks=[], ylabel=name)
    rows = list(frame.itertuples())
    layers.set(xlim=(-0.5, len(rows) + 0.5), ylim=(-0.5, 1.6))
    neuron.set(xlim=(-0.6, 4.9), ylim=(-0.5, 1.5))
    for place, row in enumerate(rows):
        shape = " x ".join(map(str, row.shape)) if max(row.shape[1:]) > 1 else str(row.shape[0])
        text = f"{row.layer}\n{shape}" + f"\n{row.neurons:,} neurons" * (place > 0)
        _box(layers, place, 0, text)
        if place:
            _arrow(layers, (place - 0.6, 0), (place - 0.4, 0))
        if row.read:
            layers.annotate(
                row.read, (len(rows) - 0.5, 1.2), (place, 0.6), arrowprops=ARROW,
                ha="center", fontsize=9,
            )  # fmt: skip
    _box(layers, len(rows), 1.2, "readout:\nclass scores")
    compartments = rows[-1].compartments
    heights = [1.1, -0.1] if len(compartments) == 2 else [0.5] * len(compartments)
    _box(neuron, 0, 0.5, "weighted\nspikes of a step")
    for (name, tau_ms), height in zip(compartments.items(), heights, strict=True):
        colour = style.COMPARTMENTS.get(name, style.DARK)
        _box(neuron, 1.75, height, f"{name} membrane, {tau_ms:g} ms", edgecolor=colour)
        _arrow(neuron, (0.42, 0.5), (1.0, height))
        _arrow(neuron, (2.5, height), (2.92, 0.5))
    _box(neuron, 3.4, 0.5, rows[-1].spike)
    _arrow(neuron, (3.9, 0.5), (4.3, 0.5))
    _box(neuron, 4.55, 0.5, "spike")
    return fig


def _box(axis: Any, x: float, y: float, text: str, **look: Any) -> None:
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": style.DARK, **look}
    axis.text(x, y, text, ha="center", va="center", fontsize=9, bbox=box)


def _arrow(axis: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.annotate("", end, start, arrowprops=ARROW)
