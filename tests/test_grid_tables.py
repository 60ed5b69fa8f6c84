"""What a grid found: tables, selection, the command."""

import numpy as np
import pandas as pd
import pytest
import yaml
from small_grid import small_grid

from ltgate import grid as package
from ltgate import paths, results, train
from ltgate.__main__ import main
from ltgate.errors import UserError
from ltgate.grid.execution import folder
from ltgate.metrics import mean_interval
from ltgate.params import Params
from ltgate.runner import execute

pytestmark = [
    pytest.mark.usefixtures("cache", "home"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


def pretend(grid, values) -> None:
    """Result rows as if every trial had run; ``values(labels, seed)`` = R (2 x 2) and spikes."""
    for job in grid.jobs():
        params = grid.params(job.configuration)
        trial = train.Trial(params, job.method, job.seed, job.cue)
        R, spikes = values(job.configuration.labels, job.seed)
        rows = []
        for scenario, less in (("class", 0.0), ("task", 0.1)):
            for split in ("validation", "test"):
                bonus = -less if split == "validation" else -R[1][1]  # tests say the opposite
                for step, task, value in (("0", 0, R[0][0]), ("1", 0, R[1][0]), ("1", 1, R[1][1])):
                    name = grid.base.tasks[task].name
                    more = (split, scenario, int(step), name, "accuracy", value + bonus)
                    rows.append(train.row(trial, *more))
                cost = (split, scenario, 1, "all", "spikes_per_sample", spikes)
                rows.append(train.row(trial, *cost))
        results.write(folder(grid.name), job.key, rows)


def test_a_row_per_trial_and_per_configuration(home):
    grid = small_grid(home, seeds=[0, 1, 2], methods=["lt_gate", "joint"])
    first = {0: 0.9, 1: 0.8, 2: 0.85}
    pretend(
        grid,
        lambda labels, seed: (
            [[first[seed], 0], [first[seed] - 0.1, 0.7 + 0.1 * labels["ridge"]]],
            5.0 + seed,
        ),
    )
    points = package.points(grid)
    assert len(points) == 4 * 2 * 3 and list(points.columns[:3]) == ["ridge", "ratio", "config"]
    row = points[(points["ridge"] == 1.0) & (points["ratio"] == 50) & (points["seed"] == 1)].iloc[0]
    assert row["acc"] == pytest.approx((0.7 + 0.8) / 2)
    assert row["forgetting"] == pytest.approx(0.1) and row["spikes_per_sample"] == 6.0
    assert np.isnan(row["seconds"]) and row["attempts"] == 0 and row["error"] == ""
    table = package.table(grid)
    assert len(table) == 8
    line = table[(table["ridge"] == 0.1) & (table["method"] == "joint")].iloc[0]
    accs = [((x - 0.1) + 0.71) / 2 for x in first.values()]
    interval = [line["acc"], line["acc_low"], line["acc_high"]]
    assert interval == pytest.approx(mean_interval(accs))
    assert line["seeds"] == 3 and line["failed"] == 0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, (1.0, 20)),  # the highest accuracy
        ({"acc": 0.0}, (0.1, 50)),  # all alike: the least forgetting
        ({"acc": 0.0, "forgetting": 0.0}, (1.0, 50)),  # then the fewest spikes
    ],
)
def test_selection_by_accuracy_then_forgetting_then_spikes(home, changed, told):
    grid = small_grid(home)
    ranks = {
        (0.1, 20): (0.0, 0.3, 9.0),
        (0.1, 50): (0.0, 0.1, 8.0),
        (1.0, 20): (0.1, 0.3, 7.0),
        (1.0, 50): (0.0, 0.2, 6.0),
    }

    def values(labels, seed):
        bonus, lost, spikes = ranks[labels["ridge"], labels["ratio"]]
        bonus, lost = bonus * changed.get("acc", 1.0), lost * changed.get("forgetting", 1.0)
        return [[0.5 + lost, 0], [0.5, 0.6 + bonus]], spikes

    pretend(grid, values)
    params = package.best(grid)
    assert (params.ridge, params.tau_slow_ms / params.tau_fast_ms) == told
    chosen = package.table(grid).set_index("best").loc["yes"]
    assert (chosen["ridge"], chosen["ratio"]) == told


def test_an_incomplete_configuration_is_not_selected(home):
    grid = small_grid(home, seeds=[0, 1], axes={"ridge": [0.1, 1.0]})
    pretend(grid, lambda labels, seed: ([[0.9, 0], [0.9, labels["ridge"] / 2]], 1.0))
    assert package.best(grid).ridge == 1.0
    lost = next(job.key for job in grid.jobs() if job.configuration.labels["ridge"] == 1.0)
    (folder("small") / "results" / f"{lost}.csv").unlink()
    assert package.best(grid).ridge == 0.1
    with pytest.raises(UserError, match="no configuration has a result"):
        package.best(small_grid(home, "empty"))
    tested = small_grid(home, "tested", measure="test")
    with pytest.raises(UserError, match="selection is on validation data only"):
        package.best(tested)


def test_the_runner_takes_the_best_configuration_as_it_is(home, monkeypatch):
    grid = small_grid(home, seeds=[0, 3])
    pretend(grid, lambda labels, seed: ([[0.9, 0], [0.9, labels["ridge"]]], labels["ratio"]))
    params = package.best(grid)
    file = paths.figures("small") / "best.yaml"
    assert file.read_text().startswith("# Best of grid small: ridge = 1.0, ratio = 20\n")
    again = Params.load(file)
    assert again == params and again.name == "small-best" and again.methods == ["lt_gate"]
    (chosen,) = {c.hash for c in grid.configurations() if c.labels == {"ridge": 1.0, "ratio": 20}}
    assert again.hash == chosen and again.seeds == [0, 3]
    announced = []
    monkeypatch.setattr(execute, "_execute", lambda _, params, steps: announced.append(params))
    execute.run([str(file)])
    assert announced == [params]


def test_ablations_are_a_grid(home):
    variants = {
        "base": {"control": True},
        "random": {"filters": "random"},
        "tau": {"tau_slow_ms": 9.0},
    }
    fields = {"axes": {}, "variants": variants, "preset": "lt_gate", "methods": ["configured"]}
    grid = small_grid(home, "ablate", seeds=[0, 1], measure="test", **fields)
    texts = list(package.report(grid))
    assert "tau" in texts[0]
    table = pd.read_csv(paths.figures("ablate") / "table_ablations.csv")
    assert list(table) == ["variant", *results.MAIN_COLUMNS]
    assert list(dict.fromkeys(table["variant"])) == list(variants)
    assert set(table.loc[table["cue"] == "no", "variant"]) == {"base"}
    assert (paths.figures("ablate") / "ablations.pdf").exists()
    rows = results.load(folder("ablate"))
    assert set(rows["split"]) == {"train", "test"}
    # the base is the method whose preset it has
    (job, *_) = grid.jobs()
    trial = train.Trial(grid.params(job.configuration), "lt_gate", 0)
    plain = train.frame(train.train(trial) + train.evaluate(trial))
    plain = plain[plain["metric"] != "curve_accuracy"]
    mine = results.load(folder("ablate"), job.key)
    np.testing.assert_array_equal(mine["value"], plain["value"])
    with pytest.raises(UserError, match="has no variants"):
        package.ablations(small_grid(home))


def test_the_command(home, capsys):
    small_grid(home, seeds=[0])
    file = str(home / "small.yaml")
    assert main(["grid", file, "--set", "threads=1", "cluster=none"]) == 0
    out = capsys.readouterr().out
    assert "4 done, 0 failed, 0 skipped" in out and "best.yaml" in out
    folder = paths.figures("small")
    made = {path.name for path in folder.iterdir()}
    assert made == {"best.yaml"} | {
        f"{name}.{suffix}"
        for name, suffixes in (
            ("table_grid", ("csv", "md")),
            ("grid_heatmap", ("pdf", "png")),
            ("grid_slices", ("pdf", "png")),
        )
        for suffix in suffixes
    }
    assert main(["grid", file]) == 0
    assert "0 done, 0 failed, 4 skipped" in capsys.readouterr().out
    assert main(["grid", file, "--set", "etta=1"]) == 2
    assert "etta" in capsys.readouterr().err
    assert main(["grid", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: nowhere: there is no such parameter file")


def test_the_command_shows_what_failed(home, capsys):
    small_grid(home, axes={"tau_fast_ms": [5.0, 200.0]})
    assert main(["grid", str(home / "small.yaml")]) == 1
    told = capsys.readouterr()
    assert "failed: UserError: tau_fast_ms = 200: must be below" in told.out
    assert told.err.endswith("small: 1 trial(s) without a result; the same command goes on\n")
    table = pd.read_csv(paths.figures("small") / "table_grid.csv", keep_default_na=False)
    assert list(table["failed"]) == [0, 1] and "must be below" in table["error"][1]
    file = yaml.safe_load((home / "small.yaml").read_text())
    assert file["axes"] == {"tau_fast_ms": [5.0, 200.0]}
