"""Sliders and menus for a notebook that is open in JupyterLab.

A saved notebook, papermill and nbval have the static figure above instead: there these functions
only say so, and always the same.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imsave

from ltgate import backends, figures, tidy
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.figures import style, traces
from ltgate.methods.base import SpikingLearner
from ltgate.network import Network
from ltgate.train import Trial

SHOWN_MS = 200.0
CANVAS = 14  # buttons a side: each is two pixels wide and high


def live() -> bool:
    """Whether someone has the notebook open: Jupyter's server names the session to its kernels."""
    return "JPY_SESSION_NAME" in os.environ


class _Screen:
    """A picture whose parts move: image, membranes in units of their threshold, scores."""

    def __init__(self, names: Sequence[str], labels: Sequence[int]) -> None:
        self.figure = style.Figure(figsize=(9, 3.6))
        self.canvas, moves = FigureCanvasAgg(self.figure), {"animated": True}
        with style.context():
            mosaic = [["image", name, "scores"] for name in names]
            axes = self.figure.subplot_mosaic(mosaic, width_ratios=(1, 3, 1))
        self.figure.subplots_adjust(0.01, 0.13, 0.99, 0.9, wspace=0.25, hspace=0.5)
        axes["image"].axis("off")
        look = {"cmap": "gray_r", "vmin": 0, "vmax": 255}
        self.image = axes["image"].imshow(np.zeros((28, 28)), **look, **moves)
        axes["scores"].set(title="scores", xlim=(-0.2, 1.1), ylim=(-0.6, len(labels) - 0.4))
        axes["scores"].set_yticks(range(len(labels)), labels)
        self.bars = axes["scores"].barh(range(len(labels)), 0.0, color=style.DARK, **moves)
        self.lines, self.texts = {}, {}
        for name in names:
            axes[name].set(xlim=(0, SHOWN_MS), ylim=(-1.5, 2.5), ylabel="membrane / threshold")
            axes[name].axhline(1, color=style.DARK, ls="--", linewidth=1)
            look = {"color": style.COMPARTMENTS.get(name, style.DARK), "linewidth": 1}
            (self.lines[name],) = axes[name].plot([], [], **look, **moves)
            self.texts[name] = axes[name].text(0, 2.6, "", **moves)
        axes[names[-1]].set_xlabel("time (ms)")
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)

    def show(self, image: np.ndarray, found: pd.DataFrame, scores: Sequence[float]) -> bytes:
        """The picture as PNG, of a frame of ``tidy.membranes`` and a score a class."""
        self.image.set_data(image)
        for bar, score in zip(self.bars, scores, strict=True):
            bar.set_width(score)
        for name, rows in found.groupby("compartment"):
            times, membrane = traces.membrane_path(rows)
            self.lines[name].set_data(times, membrane / rows["threshold"].iloc[0])
            spikes, gate = rows["spike"].sum(), rows["gate"].iloc[0]
            self.texts[name].set_text(f"{name} compartment: {spikes:.0f} spikes, gate {gate:.2f}")
        self.canvas.restore_region(self.background)
        for artist in (self.image, *self.bars, *self.lines.values(), *self.texts.values()):
            artist.axes.draw_artist(artist)
        drawn = io.BytesIO()
        imsave(drawn, self.canvas.buffer_rgba(), pil_kwargs={"compress_level": 1})
        return drawn.getvalue()


def neuron(learner: SpikingLearner, trial: Trial):
    """A digit, picked or drawn, at any frame rate and with any time constants.

    Shows the compartments of the neuron that ``tidy.membranes`` picks for the digit, its gate, and
    the readout's scores of all classes.
    """
    if not live():
        return print("In JupyterLab: pick or draw a digit, turn frame rate and time constants.")
    import ipywidgets

    images = [trial.open(position, "validation") for position in range(len(trial.tasks))]
    digits = {
        int(label): one.images[int(np.flatnonzero(np.asarray(one.labels) == label)[0])]
        for one in images
        for label in one.task.classes
    }
    network, names = learner.used, tidy.compartments(trial.params)
    screen = _Screen(names, sorted(digits))

    rate = _slider("frames (Hz)", trial.tasks[0].frame_rate_hz, 1, 3)
    taus = [
        _slider(f"tau {name} (ms)", tau, 0, 3)
        for name, tau in zip(names, network.dynamics.tau_ms, strict=True)
    ]
    digit = ipywidgets.Dropdown(options=sorted(digits), description="digit")
    small = {"width": "13px", "height": "13px", "padding": "0", "margin": "0"}
    cells = [ipywidgets.ToggleButton(layout=small) for _ in range(CANVAS**2)]
    pad = ipywidgets.GridBox(cells, layout={"grid_template_columns": f"repeat({CANVAS}, 13px)"})
    shown = ipywidgets.Image()

    place = None  # of the neuron; it stays while the digit stays

    def update(change: Any = None) -> None:
        nonlocal place
        if change is None or change.owner not in (rate, *taus):
            place = None
        pen = np.array([cell.value for cell in cells], np.uint8).reshape(CANVAS, CANVAS)
        image = np.kron(255 * pen, np.ones((2, 2), np.uint8)) if pen.any() else digits[digit.value]
        timing = {"frame_rate_hz": rate.value, "duration_ms": SHOWN_MS}
        task = TaskSpec(name="shown", classes=[0], **timing)
        dynamics = replace(network.dynamics, tau_ms=tuple(tau.value for tau in taus))
        found = tidy.membranes(learner, trial, [task], dynamics, image[None], place)
        place = found.attrs["neuron"]
        steps = schedule(task, trial.params.presentation)
        activity = backends.forward(Network(dynamics, network.layers), image[None], steps)
        scores = learner.readout.scores(learner.inputs_of(learner.seen(activity)))[0]
        shown.value = screen.show(image, found, scores.tolist())

    for control in (rate, *taus, digit, *cells):
        control.observe(update, "value")
    update()
    controls = ipywidgets.VBox([digit, rate, *taus])
    whole = ipywidgets.VBox([ipywidgets.HBox([pad, controls]), shown])
    whole.figure = screen.figure
    return whole


def _slider(label: str, value: float, low: float, high: float):
    """A slider over powers of ten from ``low`` to ``high``."""
    from ipywidgets import FloatLogSlider

    look = {"readout_format": ".1f", "style": {"description_width": "initial"}}
    return FloatLogSlider(value, min=low, max=high, step=0.05, description=label, **look)


def r_heatmap(rows: pd.DataFrame):
    """``figures.r_heatmap`` of the methods, the scenario and the cue chosen in menus."""
    if not live():
        return print("In JupyterLab: menus for methods, scenario and timescale cue.")
    from IPython.display import display
    from ipywidgets import Dropdown, SelectMultiple, interactive

    def draw(methods: tuple[str, ...], scenario: str, cue: str) -> None:
        entries = tidy.r_entries(rows, scenario, cue)
        chosen = entries[entries["method"].isin(methods)]
        if not chosen.empty:
            display(figures.r_heatmap(chosen))

    known = tuple(rows["method"].unique())
    cues = [("with the cue", "yes"), ("control", "no")]
    return interactive(
        draw,
        methods=SelectMultiple(options=known, value=known[:2]),
        scenario=Dropdown(options=["class", "task"]),
        cue=Dropdown(options=[pair for pair in cues if pair[1] in set(rows["cue"])]),
    )
