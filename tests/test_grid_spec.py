"""Grid files: what they mean, what is refused, and the hashes of their configurations."""

import hashlib
import itertools
import json
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_grid import PARAMS, small_grid

from ltgate import done, paths, results, train
from ltgate.errors import UserError
from ltgate.grid import Grid
from ltgate.grid.spec import GridFile
from ltgate.params import Params

ROWS = f"{','.join(results.COLUMNS)}\n"
RECORD = json.dumps({**done.record(), "sha256": hashlib.sha256(ROWS.encode()).hexdigest()})


def finished(path: Path) -> None:
    """A trial without rows that counts as done; quicker than through a disk."""
    path.write_text(ROWS)
    path.with_suffix(".json").write_text(RECORD)


GRID_FILES = sorted((paths.params() / "grids").glob("*.yaml"))


def refusal(folder, **fields) -> str:
    """The one line that refuses a grid file with these fields."""
    with pytest.raises(UserError) as caught:
        small_grid(folder, **fields)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(folder / "small.yaml"))
    return str(caught.value)


@pytest.mark.parametrize("file", GRID_FILES, ids=lambda file: file.stem)
def test_the_grid_files_are_valid(file):
    grid = Grid.load(file)
    assert grid.name == file.stem
    assert Grid.load(file.stem).base == grid.base  # known by its bare name
    for configuration in grid.configurations():
        assert grid.params(configuration).hash == configuration.hash


def test_the_published_grid_is_the_papers():
    grid = Grid.load("published")
    found = {(c.labels["eta"], c.labels["tau_ratio"]): c for c in grid.configurations()}
    assert set(found) == set(itertools.product((0.005, 0.002), (20, 50)))
    for (eta, ratio), configuration in found.items():
        params = grid.params(configuration)
        assert params.eta == eta and params.tau_slow_ms / params.tau_fast_ms == ratio
        assert params.tau_fast_ms == 5.0


def test_the_base_of_a_notebook_wins_over_the_files(tmp_path):
    base = Params(name="other", seeds=[3, 4])
    grid = small_grid(tmp_path)
    again = Grid.load(tmp_path / "small.yaml", base, cluster="local", channels=[4, 4])
    assert grid.name == "small" and again.name == "other"
    assert again.base.seeds == [3, 4] and again.base.cluster == "local"
    assert again.base.train_images == PARAMS["train_images"] and again.base.channels == [4, 4]


def test_a_preset_is_laid_under_the_variants(tmp_path):
    variants = {"base": {}, "random": {"filters": "random"}}
    grid = small_grid(
        tmp_path, preset="lt_gate_published", methods=["configured"], axes={}, variants=variants
    )
    base, random = map(grid.params, grid.configurations())
    assert base.filters == "always" and base.threshold_scope == "layer"
    assert random.filters == "random" and random.threshold_scope == "layer"
    assert "no method" in refusal(tmp_path, preset="best")


def test_trials_come_with_every_method_seed_and_control(tmp_path):
    grid = small_grid(
        tmp_path, seeds=[0, 7], methods=["lt_gate", "joint"], params={"control": True}
    )
    keys = [job.key for job in grid.jobs()]
    wanted = [trial.key for c in grid.configurations() for trial in train.trials(grid.params(c))]
    assert sorted(keys) == sorted(wanted) and len(set(keys)) == 4 * 2 * 2 * 2


def test_what_two_variants_share_runs_once(tmp_path):
    variants = {"base": {}, "tau20": {"tau_slow_ms": 100.0}, "tau10": {"tau_slow_ms": 50.0}}
    grid = small_grid(tmp_path, axes={}, variants=variants)
    assert len(list(grid.configurations())) == 3 and len(list(grid.jobs())) == 2


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"axis": {}}, "unknown parameter 'axis', did you mean 'axes'?"),
        ({"axes": {"etta": [0.1]}}, "axes: etta: 0.1: unknown parameter 'etta', did you mean"),
        ({"axes": {"eta": ["0.1"]}}, "eta = '0.1': must be a finite number"),
        ({"axes": {"eta": 0.1}}, "axes: eta = 0.1: must be a list of values"),
        ({"axes": {"eta": []}}, "axes: eta = []: must be a list of values"),
        ({"axes": {"a": {1: {"eta": -1.0}}}}, "axes: a: 1: eta = -1.0: must be a finite number"),
        ({"axes": {"eta": {"low": 0.1}}}, "axes: eta = {'low': 0.1}: must be a list of values"),
        ({"axes": {"seeds": [[1], [2]]}}, "seeds cannot be varied"),
        ({"variants": {"a": {"methods": ["joint"]}}}, "axes: variant: a: methods cannot be varied"),
        ({"base": "missing.yaml"}, "cannot read this parameter file"),
        ({"measure": "train"}, "measure = 'train': must be validation | test"),
        ({"retries": -1}, "retries = -1: must be"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path, fields, told):
    assert told in refusal(tmp_path, **fields)


def test_a_contradiction_that_another_axis_lifts_is_no_mistake(tmp_path):
    axes = {"tau_fast_ms": [5.0, 200.0], "tau_slow_ms": [500.0]}
    grid = small_grid(tmp_path, axes=axes)
    assert {grid.params(c).tau_fast_ms for c in grid.configurations()} == {5.0, 200.0}
    alone = small_grid(tmp_path, axes={"tau_fast_ms": [200.0]})  # found when its trial begins
    with pytest.raises(UserError, match="must be below tau_slow_ms"):
        alone.params(next(alone.configurations()))


# hashes

BASE = Params(seeds=[1, 2], channels=[4, 8], strides=[2, 2], readout_layers=["conv2"])
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "eta": st.floats(0, 1e6) | st.integers(0, 1000),
        "tau_slow_ms": st.floats(6, 1e9) | st.integers(6, 100),
        "epochs": st.integers(1, 1000),
        "gate": st.sampled_from(["select", "blend", "fixed"]),
        "balanced": st.booleans(),
        "channels": st.lists(st.integers(1, 99), min_size=2, max_size=2),
        "threads": st.integers(0, 9),
        "source": st.sampled_from(["digits", "mnist", 'idx:/tmp/ä "quoted"']),
        "tasks": st.sampled_from([PARAMS["tasks"], PARAMS["tasks"][::-1]]),
    },
)


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=3))
def test_the_hash_of_a_configuration_is_that_of_its_parameters(changes):
    variants = {str(number): overrides for number, overrides in enumerate(changes)}
    grid = Grid.create(GridFile(variants=variants), Path("any.yaml"), BASE)
    for configuration, overrides in zip(grid.configurations(), changes, strict=True):
        assert configuration.hash == BASE.with_(**overrides).hash


def test_ten_thousand_configurations_are_listed_hashed_and_skipped(tmp_path, monkeypatch):
    """In under 5 s, and in a few megabytes whatever their number."""
    from ltgate import grid as package
    from ltgate.grid.execution import folder

    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    (folder("small") / "results").mkdir(parents=True)
    peaks = {}
    for side in (20, 40, 100):
        values = [float(n) for n in range(1, side + 1)]
        grid = small_grid(tmp_path, axes={"eta": values, "tau_slow_ms": [5.0 + x for x in values]})
        for job in grid.jobs():
            finished(folder("small") / "results" / f"{job.key}.csv")
        if side == 100:
            start = time.process_time()
            assert package.run(grid) == {"done": 0, "failed": 0, "skipped": 10_000}
            assert time.process_time() - start < 5
        else:
            tracemalloc.start()
            package.run(grid)
            peaks[side] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peaks[40] - peaks[20] < 250 * 1200  # bytes for each more


def test_a_parameter_file_is_told():
    path = paths.params() / "quick.yaml"
    with pytest.raises(UserError, match=r"quick\.yaml: is a parameter file .*`ltgate run` runs it"):
        Grid.load(path)
