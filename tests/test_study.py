"""The study of timescales: its configurations, and its tables from rows written by hand."""

import numpy as np
import pandas as pd
import pytest

from ltgate import study
from ltgate.params import Params

FULL = Params.load("timescales")


def rows(params: Params, accuracy: dict[str, list[float]]) -> pd.DataFrame:
    """Result rows of some methods: ACC of each seed, validation the other way round, a control."""
    lines = []
    for method, values in accuracy.items():
        for seed, value in enumerate(values):
            for cue, shift in (("yes", 0.0), ("no", 0.3)):
                common = {
                    "config": params.hash, "method": method, "seed": seed, "sequence": "fast>slow",
                    "cue": cue, "train_images": 9, "scenario": "domain",
                }  # fmt: skip
                for split, step, task, metric, number in (
                    ("test", 0, "fast", "accuracy", value + shift),
                    ("test", 1, "fast", "accuracy", value + shift),
                    ("test", 1, "slow", "accuracy", value + shift),
                    ("test", 0, "fast", "accuracy/50Hz/frame", value / 2),
                    ("test", 1, "all", "spikes_per_sample", 100.0),
                    ("test", 1, "all", "state_bytes", 5000.0),
                    ("validation", 40, "fast", "curve_accuracy", abs(value + shift - 1)),
                    ("validation", 80, "fast", "curve_accuracy", value + shift),
                ):
                    given = {"split": split, "step": step, "task": task, "metric": metric}
                    lines.append({**common, **given, "value": number})
    return pd.DataFrame(lines)


ACCURACY = {"tau_5": [0.5, 0.6], "tau_100": [0.7, 0.6], "gate_layer": [0.8, 0.8]}


def test_the_best_single_time_constant_is_that_of_validation_at_the_end() -> None:
    assert study.best_single(rows(FULL, ACCURACY)) == "tau_100"


def test_a_row_is_a_method_against_the_best_single_one() -> None:
    some = FULL.with_(methods=list(ACCURACY))
    made = study.table(rows(some, ACCURACY), some).set_index("method")
    assert list(made.index) == ["5 ms", "100 ms", "set-point gate, layer"]
    gate = made.loc["set-point gate, layer"]
    assert gate["ACC, %"] == "80.0 ± 0.0" and gate["last speed unlearned, %"] == "40.0 ± 0.0"
    assert gate["more than 100 ms, points"].startswith("+15.0 (") and gate["seeds"] == 2
    assert made.loc["100 ms", "more than 100 ms, points"] == ""


def test_speeds_are_those_after_the_first_task() -> None:
    some = FULL.with_(methods=list(ACCURACY), other_rates=[50.0])
    made = study.at_speeds(rows(some, ACCURACY), some)
    assert list(made["method"]) == list(ACCURACY) and set(made["tested_hz"]) == {50.0}
    np.testing.assert_allclose(made["mean"], [0.275, 0.325, 0.4])


def test_other_runs_take_the_study_from_its_file_in_their_sizes() -> None:
    mine = Params(name="mine", train_images=60, validation_images=0, test_images=50)
    taken, file = study.parameters(mine), Params.load("timescales_quick")
    assert (taken.name, taken.train_images, taken.test_images) == ("mine", 60, 50)
    assert taken.validation_images == file.validation_images
    assert taken.with_(name=file.name, train_images=500, test_images=300) == file
    assert study.parameters(FULL) is FULL


def test_what_is_compared_differs_in_what_it_says_alone() -> None:
    ours, local = FULL.model_dump(), study.local(FULL).model_dump()
    differing = {name for name in ours if ours[name] != local[name]}
    assert differing == {"readout", "standardise_counts", "readout_rate", "epochs"}
    assert study.controls(FULL.with_(control=False)) == {}
    assert study.further(FULL.with_(control=False)) == {}
    drawn, hebbian, *_ = (made.model_dump() for made in study.learned(FULL).values())
    differing = {name for name in drawn if drawn[name] != hebbian[name]}
    assert differing == {"filters", "filter_taus_ms", "methods"}
    silent, none = study.delayed(FULL).values()
    assert (silent.tasks[0].frames, none.tasks[0].frames) == (420, 20)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_control_of_equal_rates_has_equal_rates(seed: int) -> None:
    params = study.controls(FULL)["two scales, equal rates"].with_(
        seeds=[seed], scales_samples=20, train_images=100, validation_images=20
    )
    shown = study.trial(params, "tau_20").open(0, "train").images[:100]
    fast, slow = shown.reshape(len(shown), -1, 2, params.scales_channels).sum((0, 1, 3))
    assert abs(fast / slow - 1) < 0.05
