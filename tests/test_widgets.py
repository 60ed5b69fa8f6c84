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
def trial(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTGATE_HOME", str(tmp_path_factory.mktemp("home")))
        params = Params(channels=[2], strides=[2], hidden=[4], readout_layers=["conv1"])
        yield train.Trial(params, "lt_gate", seed=0)


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
    assert widgets.membranes(learner, trial) is None
    assert widgets.r_heatmap(rows()) is None
    assert capsys.readouterr().out.count("In JupyterLab: ") == 2


def test_sliders_draw_the_membranes(live, learner, trial):
    widget = widgets.membranes(learner, trial)
    rate, fast, slow = widget.children[:3]
    assert (fast.value, slow.value) == (5.0, 100.0)
    titles = []
    for value in (1000.0, 12.5):
        live.clear()
        rate.value = value
        widget.update()
        figure = live[-1]
        titles.append([axes.get_title() for axes in figure.axes])
    assert titles[0] != titles[1] and "12Hz" in titles[1][0]


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
        assert 0 < min(busiest) <= 0.25 and busiest[-1] == 1
    finally:
        layer.threshold = before
