"""Robustness: trained at one rate, tested at others; nothing adapts, nothing is done twice."""

import numpy as np
import pandas as pd
import pytest
import small_grid
import torch

from ltgate import paths, results, robustness, train
from ltgate.data.tasks import TaskSpec
from ltgate.errors import UserError
from ltgate.figures import robustness as draw
from ltgate.methods.base import SpikingLearner
from ltgate.params import Params

PARAMS = Params(**{
    **small_grid.PARAMS, "name": "tiny", "methods": ["lt_gate"], "seeds": [0, 1],
    "tasks": [
        TaskSpec(name="fast", classes=[0, 1], frame_rate_hz=1000.0, duration_ms=80.0),
        TaskSpec(name="slow", classes=[2, 3], frame_rate_hz=50.0, duration_ms=160.0),
    ],
    "robustness_trained": [50.0, 100.0], "robustness_rates": [25.0, 50.0],
})  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """Every learner is trained and tested once, for all tests below."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTGATE_HOME", str(tmp_path_factory.mktemp("home")))
        robustness.run(PARAMS)
        yield
    torch.set_num_threads(threads)


def test_only_the_frame_rate_changes():
    there = robustness.at_rate(PARAMS, 25.0)
    assert [task.frame_rate_hz for task in there.tasks] == [25.0, 25.0]
    assert [task.duration_ms for task in there.tasks] == [80.0, 160.0]
    assert [task.frames for task in there.tasks] == [2, 4]
    back = there.with_(tasks=PARAMS.tasks, keep_features=True)
    assert back == PARAMS
    with pytest.raises(UserError, match="rounds to 0 frames"):
        robustness.at_rate(PARAMS, 1.0)


def test_every_learner_meets_every_rate_and_presentation_its_own_first():
    found = robustness.conditions(PARAMS)
    assert len({condition.key for condition in found}) == len(found) == 2 * 2 * (2 + 3)
    at_100 = [c for c in found if c.trained_hz == 100 and c.trial == found[4].trial]
    assert [(c.tested_hz, c.presentation) for c in at_100] == [
        (rate, name) for rate in (100, 25, 50) for name in ("frame", "pulse")
    ]


def test_table_is_mean_and_share_kept_over_seeds():
    table, found = robustness.table(PARAMS), robustness.conditions(PARAMS)
    assert list(table) == robustness.COLUMNS
    assert len(table) == len(found) / 2
    assert (table["seeds"] == 2).all()
    own = table[(table["trained_hz"] == table["tested_hz"]) & (table["presentation"] == "frame")]
    assert own["kept"].tolist() == [1, 1]
    values = {}
    for c in found:
        rows = results.load(paths.run("tiny"), c.key)
        value = rows.loc[rows["metric"] == c.metric("accuracy"), "value"].mean()
        values[c.trained_hz, c.trial.seed, c.tested_hz, c.presentation] = value
    for line in table.itertuples():
        own, test = (line.trained_hz, "frame"), (line.tested_hz, line.presentation)
        there = [values[line.trained_hz, seed, *test] for seed in (0, 1)]
        before = [values[line.trained_hz, seed, *own] for seed in (0, 1)]
        assert line.mean == pytest.approx(np.mean(there))
        assert line.kept == pytest.approx(np.mean(np.divide(there, before)))
        assert line.ci_low <= line.mean <= line.ci_high
    assert len(draw(table).axes) == 4


def test_least_kept_within_a_quarter_and_four_times_and_by_how_much_more(monkeypatch):
    dual, single = PARAMS.methods[0], "single_tau"
    lines = [  # kept by each of two seeds
        (dual, 50.0, 12.5, 0.97, 0.98), (dual, 50.0, 200.0, 1.0, 0.99),
        (dual, 50.0, 1000.0, 0.1, 0.1), (dual, 1000.0, 250.0, 0.96, 0.99),
        (single, 50.0, 12.5, 0.90, 0.93), (single, 50.0, 200.0, 0.95, 0.80),
        (single, 50.0, 1000.0, 1.0, 1.0), (single, 1000.0, 250.0, 0.98, 0.98),
    ]  # fmt: skip
    shares = pd.DataFrame(
        [
            (method, trained, tested, "frame", seed, 0.0, kept[seed], 0.0)
            for method, trained, tested, *kept in lines
            for seed in (0, 1)
        ],
        columns=[*robustness.SETTING, "seed", "accuracy", "kept", "spikes"],
    )
    monkeypatch.setattr(robustness, "by_seed", lambda params: shares)
    table = robustness.table_kept(PARAMS.with_(methods=[dual, single]))
    table = table.set_index(["method", "trained_hz"])
    assert table["kept"].to_dict() == pytest.approx(
        {
            (dual, "50"): 0.975, (dual, "1000"): 0.975, (dual, "all"): 0.97,
            (single, "50"): 0.85, (single, "1000"): 0.98, (single, "all"): 0.85,
        }
    )  # fmt: skip
    assert table["more"].dropna().to_dict() == pytest.approx(
        {(single, "50"): 0.125, (single, "1000"): -0.005, (single, "all"): 0.12}
    )
    assert (table["seeds"] == 2).all()


def test_at_its_own_rate_a_learner_scores_as_in_the_continual_loop():
    condition = robustness.conditions(PARAMS)[0]
    last = [row for row in train.evaluate(condition.trial) if row["step"] == 1]
    R = [r["value"] for r in last if (r["metric"], r["scenario"]) == ("accuracy", "class")]
    rows = results.load(paths.run("tiny"), condition.key)
    assert rows.loc[rows["metric"] == "accuracy/50Hz/frame", "value"].tolist() == R


def test_neither_network_nor_readout_changes_with_the_rate(monkeypatch):
    seen = []

    def scores(self, images, number=0):
        state = self.network.fingerprint(), self.readout.weight.sum().item()
        seen.append((state, images.task.frame_rate_hz, self.params.presentation))
        return honest(self, images, number)

    honest = SpikingLearner.scores
    monkeypatch.setattr(SpikingLearner, "scores", scores)
    first = robustness.conditions(PARAMS)[0].trial
    for condition in robustness.conditions(PARAMS):
        if condition.trial == first:
            (paths.run("tiny") / "results" / f"{condition.key}.csv").unlink()
    robustness.run(PARAMS)
    assert len(seen) == 2 * 4  # two tasks; own rate and 25 Hz, each in two presentations
    assert len({state for state, *_ in seen}) == 1
    assert {tuple(timing) for _, *timing in seen} == {
        (rate, name) for rate in (25.0, 50.0) for name in ("frame", "pulse")
    }


def test_a_killed_run_repeats_only_what_is_missing(monkeypatch):
    before = robustness.table(PARAMS)
    lost = robustness.conditions(PARAMS)[3]
    file = paths.run("tiny") / "results" / f"{lost.key}.csv"
    content = file.read_bytes()
    file.unlink()
    kept = {p: p.stat().st_mtime_ns for p in file.parent.glob("*.csv")}
    monkeypatch.setattr(train, "train", lambda trial: pytest.fail("trained again"))
    robustness.run(PARAMS)
    assert file.read_bytes() == content
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert robustness.table(PARAMS).equals(before)


def test_tables_of_a_run_that_is_not_over_are_refused(monkeypatch):
    exists, missing = results.exists, robustness.conditions(PARAMS)[-1].key
    monkeypatch.setattr(
        results, "exists", lambda folder, key: key != missing and exists(folder, key)
    )
    with pytest.raises(UserError, match="run the tests first"):
        robustness.table(PARAMS)
