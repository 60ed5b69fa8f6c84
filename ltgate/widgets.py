"""Sliders and menus for a notebook that is open in JupyterLab.

A saved notebook, papermill and nbval have the static figure above instead: there these functions
only say so, and always the same.
"""

import os
from dataclasses import replace

import pandas as pd

from ltgate import figures, tidy
from ltgate.data.tasks import TaskSpec
from ltgate.methods.base import SpikingLearner
from ltgate.train import Trial


def live() -> bool:
    """Whether someone has the notebook open: Jupyter's server names the session to its kernels."""
    return "JPY_SESSION_NAME" in os.environ


def membranes(learner: SpikingLearner, trial: Trial):
    """The neuron of ``tidy.membranes`` at any frame rate and with any time constants."""
    if not live():
        return print("In JupyterLab: sliders over the frame rate and both time constants.")
    from IPython.display import display
    from ipywidgets import FloatLogSlider, interactive

    first, dynamics = trial.tasks[0], learner.network.dynamics

    def draw(**chosen: float) -> None:
        rate, *taus = chosen.values()
        task = TaskSpec(
            name=f"{rate:.0f}Hz", classes=first.classes, frame_rate_hz=rate, duration_ms=400.0
        )
        frame = tidy.membranes(learner, trial, [task], replace(dynamics, tau_ms=tuple(taus)))
        display(figures.membrane_traces(frame))

    def slider(label: str, value: float, low: float, high: float) -> FloatLogSlider:
        return FloatLogSlider(
            value,
            min=low,
            max=high,
            step=0.05,
            description=label,
            continuous_update=False,
            readout_format=".1f",
            style={"description_width": "initial"},
        )

    names = tidy.COMPARTMENTS[trial.params.compartments]
    taus = {
        f"tau_{name}": slider(f"tau {name} (ms)", tau, 0, 3)
        for name, tau in zip(names, dynamics.tau_ms, strict=True)
    }
    return interactive(draw, frame_rate=slider("frames (Hz)", first.frame_rate_hz, 1, 3.6), **taus)


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
