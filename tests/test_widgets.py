"""Widgets: figures that follow sliders and menus in JupyterLab, one fixed line elsewhere."""

import numpy as np
import pandas as pd
import pytest
import torch

from ltgate import methods, tidy, train, widgets
from ltgate.params import Params


@pytest.fixture
def live(monkeypatch):
    """As in a kernel that Jupyter's server has started; what is displayed."""
    import IPython.display

    shown = []
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook")
    monkeypatch.setattr(IPython.display, "display", shown.append)
    return shown


@pytest.fixture(scope="module")
def trial(shared_home):
    params = Params(channels=[2], strides=[2], hidden=[4], readout_layers=["conv1"])
    return train.Trial(params, "lt_gate", seed=0)


@pytest.fixture(scope="module")
def learner(trial):
    return methods.create("lt_gate", trial.params, np.random.default_rng(0))


def rows():
    entries = [
        {"metric": "accuracy", "split": "test", "scenario": scenario, "cue": cue, "method": method,
         "seed": 0, "step": step, "task": task, "value": 0.5}
        for scenario in ("class", "task") for cue in ("yes", "no") for method in ("a", "b", "c")
        for step, task in ((0, "fast"), (1, "fast"), (1, "slow"))
    ]  # fmt: skip
    return pd.DataFrame(entries)


def test_elsewhere_one_line_that_never_changes(learner, trial, monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert widgets.neuron(learner, trial) is None
    assert widgets.r_heatmap(rows()) is None
    assert capsys.readouterr().out.count("In JupyterLab: ") == 2


def test_a_digit_picked_or_drawn_is_shown_and_scored(live, learner, trial):
    """The scores are those of ``scores`` at the task's own rate; every control draws anew."""
    learner.readout.weight[:] = torch.linspace(-1, 1, learner.readout.weight.numel()).view_as(
        learner.readout.weight
    )
    widget = widgets.neuron(learner, trial)
    axes = {axis.get_label(): axis for axis in widget.figure.axes}
    top, shown = widget.children
    canvas, controls = top.children
    digit, rate, fast, slow = controls.children
    assert (fast.value, slow.value, rate.value) == (5.0, 100.0, 1000.0)
    images = trial.open(0, "validation")
    digit.value = 3
    row = int(np.flatnonzero(np.asarray(images.labels) == 3)[0])
    drawn = [bar.get_width() for bar in axes["scores"].patches]
    assert drawn == pytest.approx(learner.scores(images)[row].tolist())
    seen = {bytes(shown.value)}
    for control, value in ((rate, 50.0), (fast, 20.0), (digit, 7), (canvas.children[90], True)):
        control.value = value
        seen.add(bytes(shown.value))
    assert len(seen) == 5
    pixels = axes["image"].images[0].get_array()
    assert pixels.shape == (28, 28) and (pixels == 255).sum() == 4 and pixels[12, 12] == 255


def test_menus_choose_what_the_heat_map_shows(live):
    widget = widgets.r_heatmap(rows())
    methods_, scenario, cue = widget.children[:3]
    methods_.value, scenario.value, cue.value = ("b", "c"), "task", "no"
    live.clear()
    widget.update()
    figure = live[-1]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["b", "c"]
    live.clear()
    methods_.value = ()
    widget.update()
    assert not live


def test_the_neuron_shown_is_one_that_does_not_fire_in_every_step(learner, trial):
    """Channel 0 fires all the time, channel 1 now and then; without the latter, the former is."""
    layer, before = learner.network.layers[0], learner.network.layers[0].threshold
    try:
        busiest = []
        for second in (*np.geomspace(0.05, 5, 12), 1e3):
            layer.threshold = torch.tensor([[1e-3, second]]).expand_as(before).clone()
            shown = tidy.membranes(learner, trial)
            busiest.append(shown.groupby(["task", "compartment"])["spike"].mean().max())
            again = tidy.membranes(learner, trial, neuron=shown.attrs["neuron"])
            pd.testing.assert_frame_equal(again, shown)
        assert 0 < min(busiest) <= 0.25 and busiest[-1] == 1
    finally:
        layer.threshold = before
