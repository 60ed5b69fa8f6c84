"""Result rows: what is written comes back, whole or not at all, and the table made of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ltgate import files, metrics, results, train
from ltgate.errors import UserError
from ltgate.params import Params

HASH = "123e45678901"  # must never be read as a number


def row(**changes):
    base = {
        "config": HASH,
        "method": "lt_gate",
        "seed": 0,
        "sequence": "fast>slow",
        "cue": "yes",
        "train_images": 1000,
        "split": "test",
        "scenario": "class",
        "step": 0,
        "task": "fast",
        "metric": "accuracy",
        "value": 0.5,
    }
    return {**base, **changes}


def matrix_rows(R, tasks=("fast", "slow"), **changes):
    return [
        row(step=i, task=tasks[j], value=R[i][j], **changes)
        for i in range(len(R))
        for j in range(i + 1)
    ]


def test_what_is_written_comes_back(tmp_path):
    first = [row(value=0.1 + 0.2), row(step=1, task="", metric="state_bytes", value=1e12 + 1)]
    second = [row(method="joint", task="all", value=float("nan"))]
    assert not results.exists(tmp_path, "b")
    results.write(tmp_path, "b", first)
    results.write(tmp_path, "b", second)  # replaces
    results.write(tmp_path, "a-0", first)
    expected = pd.DataFrame(first + second)
    pd.testing.assert_frame_equal(results.load(tmp_path), expected, check_exact=True)
    assert (tmp_path / "results" / "a-0.csv").is_file() and results.exists(tmp_path, "b")


def test_rows_say_where_they_come_from(tmp_path):
    trial = train.Trial(Params(name="mine", eta=0.25), "joint", 3, cue=False)
    results.write(
        tmp_path, "a", [row()], trial.origin(trial.made(), "validation", measure="validation")
    )
    results.write(tmp_path, "b", [row()])
    record = files.read_json(tmp_path / "results" / "a.json")
    assert Params(**record["parameters"]) == trial.params and record["hash"] == trial.params.hash
    told = [record[name] for name in ("method", "seed", "cue", "measure")]
    assert told == ["joint", 3, False, "validation"]
    assert record["version"] and record["commit"] and record["libraries"]["torch"]
    assert record["machine"]["cores"] >= 1
    assert len(results.load(tmp_path)) == 2


def test_nothing_written_is_no_rows_but_all_columns(tmp_path):
    frame = results.load(tmp_path)
    assert frame.empty and list(frame) == list(results.COLUMNS)
    assert results.curves(frame, cue="yes", scenario="class").empty


def test_no_rows_are_not_written(tmp_path):
    with pytest.raises(UserError, match="empty"):
        results.write(tmp_path, "a", [])
    assert not results.exists(tmp_path, "a")


@pytest.mark.parametrize("key", ["", "../a", ".a", "-a"])
def test_bad_key(tmp_path, key):
    with pytest.raises(UserError, match="key"):
        results.write(tmp_path, key, [row()])


def test_a_foreign_file_is_left_out_and_told(tmp_path, monkeypatch):
    monkeypatch.delenv("LTGATE_PROGRESS", raising=False)
    results.write(tmp_path, "a", [row()])
    (tmp_path / "results" / "b.csv").write_text("method,value\nx,1\n")
    with pytest.warns(UserWarning, match="1 of 2 files of rows are left out"):
        assert len(results.load(tmp_path)) == 1
    with pytest.raises(UserError, match=r"b\.csv: it has changed since; run it again"):
        results.load(tmp_path, "b")


def test_r_matrix():
    rows = matrix_rows([[0.9], [0.95, 0.8], [0.7, 0.6, 0.5]], "abc")
    rows += matrix_rows([[0.1], [0.2, 0.3], [0.4, 0.5, 0.6]], "abc", seed=1)
    rows += [row(metric="curve_accuracy", step=700, task="a")]
    frame = pd.DataFrame(rows).sample(frac=1, random_state=0)
    nan = float("nan")
    expected = [[0.9, nan, nan], [0.95, 0.8, nan], [0.7, 0.6, 0.5]]
    np.testing.assert_array_equal(results.r_matrix(frame, seed=0), expected)
    swapped = results.r_matrix(frame, ["b", "a", "c"], seed=0)
    np.testing.assert_array_equal(swapped[2], [0.6, 0.7, 0.5])


def test_r_matrix_refuses_a_mixture():
    frame = pd.DataFrame(matrix_rows([[0.9], [0.8, 0.7]]) + matrix_rows([[0.9]], seed=1))
    with pytest.raises(UserError, match="several accuracies for step 0, task 'fast'"):
        results.r_matrix(frame)
    with pytest.raises(UserError, match="no accuracy rows"):
        results.r_matrix(frame, seed=5)
    with pytest.raises(UserError, match="'sed'"):
        results.r_matrix(frame, sed=0)
    with pytest.raises(UserError, match="task 'slow'"):
        results.r_matrix(frame, ["fast", "other"], seed=0)


def curve_rows(**changes):
    found = []
    for task, step, begin in (("a", 0, 0), ("b", 1, 100), ("c", 2, 200)):
        begun = {"split": "train", "task": task, "metric": "boundary", "value": float(step)}
        found.append(row(**begun, step=begin, **changes))
        for batch in (begin + 50, begin + 100):
            point = {"split": "validation", "task": task, "metric": "curve_accuracy"}
            found.append(row(**point, step=batch, value=batch / 1000, **changes))
    return found


def test_curves_know_the_boundary_before_each_point():
    frame = pd.DataFrame(curve_rows() + curve_rows(seed=1) + matrix_rows([[0.5], [0.5, 0.5]]))
    curves = results.curves(frame, cue="yes", scenario="class")
    assert list(curves) == ["method", "seed", "batch", "task", "accuracy", "boundary"]
    one = curves[curves["seed"] == 1]
    assert list(one["task"]) == ["a", "a", "b", "b", "c", "c"]
    assert list(one["accuracy"]) == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    np.testing.assert_array_equal(one["boundary"], [np.nan, np.nan, 100, 100, 200, 200])


def test_curves_refuse_a_mixture():
    frame = pd.DataFrame(curve_rows() + curve_rows(cue="no"))
    assert len(results.curves(frame, cue="no")) == 6
    with pytest.raises(UserError, match="several points of lt_gate, seed 0, batch 50, task 'a'"):
        results.curves(frame)


MATRICES = {  # by method, cue, seed
    ("lt_gate", "yes", 0): [[0.98], [0.96, 0.94]],
    ("lt_gate", "yes", 1): [[0.96], [0.92, 0.92]],
    ("joint", "yes", 0): [[0.99], [0.98, 0.96]],
    ("lt_gate", "no", 0): [[0.98], [0.90, 0.92]],
}


@pytest.fixture
def rows():
    found = []
    for (method, cue, seed), R in MATRICES.items():
        found += matrix_rows(R, method=method, cue=cue, seed=seed)
        found += matrix_rows(R, method=method, cue=cue, seed=seed, split="validation")
        found += [row(method=method, cue=cue, seed=seed, metric="curve_accuracy", step=50)]
        costs = {"method": method, "cue": cue, "seed": seed, "metric": "state_bytes", "task": "all"}
        found += [row(**costs, step=0, value=1000.0), row(**costs, step=1, value=2000.0 + seed)]
    return found


def cell(table, **values):
    found = results.choose(table, **values)
    assert len(found) == 1
    return found.iloc[0]


def test_main_table(rows):
    table = results.summarise(pd.DataFrame(rows))
    assert list(table) == results.MAIN_COLUMNS
    acc = cell(table, method="lt_gate", cue="yes", metric="acc")
    expected = metrics.mean_interval([0.95, 0.92])
    assert (acc["mean"], acc["ci_low"], acc["ci_high"]) == pytest.approx(expected)
    assert acc["seeds"] == 2 and acc["train_images"] == 1000
    assert acc["scenario"] == "class" and acc["sequence"] == "fast>slow"
    forgetting = cell(table, method="lt_gate", cue="yes", metric="forgetting")
    assert forgetting["mean"] == pytest.approx((0.02 + 0.04) / 2)
    bwt = cell(table, method="lt_gate", cue="yes", metric="bwt")
    assert bwt["mean"] == pytest.approx(-0.03)
    retention = cell(table, method="lt_gate", cue="yes", metric="retention")
    assert retention["mean"] == pytest.approx((0.96 / 0.98 + 0.92 / 0.96) / 2)


def test_main_table_takes_the_excess_from_the_same_seed_and_cue(rows):
    table = results.summarise(pd.DataFrame(rows))
    excess = cell(table, method="lt_gate", cue="yes", metric="forgetting_excess")
    assert excess["mean"] == pytest.approx(0.02 - 0.01) and excess["seeds"] == 1
    assert np.isnan(excess["ci_low"])
    assert results.choose(table, cue="no", metric="forgetting_excess").empty


def test_main_table_takes_costs_after_the_last_step(rows):
    table = results.summarise(pd.DataFrame(rows))
    assert cell(table, method="lt_gate", cue="yes", metric="state_bytes")["mean"] == 2000.5


def test_papers_values_stand_beside_its_setting_only(rows):
    rows += matrix_rows([[0.9], [0.5, 0.6]], method="hlop")
    rows += matrix_rows([[0.9], [0.9, 0.9]], scenario="task")
    rows += matrix_rows([[0.9], [0.5, 0.6]], method="lt_gate_published")
    table = results.summarise(pd.DataFrame(rows)).dropna(subset="paper")
    found = set(zip(table["method"], table["metric"], table["paper"], strict=True))
    assert found == {
        ("lt_gate", "acc", 0.51),
        ("lt_gate", "forgetting", 0.032),
        ("lt_gate_published", "acc", 0.51),
        ("lt_gate_published", "forgetting", 0.032),
        ("hlop", "acc", 0.46),
    }
    assert set(table["cue"]) == {"yes"} and set(table["scenario"]) == {"class"}


def test_main_table_of_one_configuration(rows):
    other = matrix_rows([[0.1], [0.1, 0.1]], config="ffffffffffff", seed=7)
    frame = pd.DataFrame(rows + other)
    p = SimpleNamespace(hash=HASH, methods=["joint", "lt_gate"])
    table = results.summarise(frame, p)
    assert cell(table, method="lt_gate", cue="yes", metric="acc")["seeds"] == 2
    assert list(table["method"].unique()) == ["joint", "lt_gate"]
    with pytest.raises(UserError, match=r"no test rows of configuration 0{12}"):
        results.summarise(frame, SimpleNamespace(hash="0" * 12, methods=[]))
