"""Measuring itself: times, memory, sweeps, peers, the tables. No time is ever asserted."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from small_bench import small_bench

from ltgate import growth, paths, perf
from ltgate.__main__ import main
from ltgate.perf import bench as benching
from ltgate.perf import (
    bench_tables,
    fresh,
    loading,
    passes,
    peers,
    side_by_side,
    sweeps,
    timing,
    training,
)


@pytest.fixture(scope="module")
def bench() -> benching.Bench:
    return small_bench()


# ------------------------------------------------------------------------------- times


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    candidates = {name: lambda name=name: calls.append(name) for name in "ab"}
    found = timing.interleaved(candidates, 3)
    assert calls == list("ababab")
    assert set(found) == {"a", "b"} and min(found.values()) > 0


def test_the_shortest_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 3.0, 10.0, 12.0, 20.0, 25.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(times))
    assert timing.interleaved({"work": lambda: None}, 3) == {"work": 2.0}


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), timing.threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


# ------------------------------------------------------------------------------- memory


def allocate(megabytes: int) -> None:
    np.ones(megabytes * 125_000)


def test_peak_memory_counts_what_a_call_lets_go_again() -> None:
    works = [partial(allocate, megabytes) for megabytes in (100, 10, 50)]
    found = fresh.peaks(partial(allocate, 1), works, threads=1)
    assert [peak / 1e6 for peak in found] == pytest.approx([100, 10, 50], abs=5)


def threads_there() -> int:
    return torch.get_num_threads()


def test_a_fresh_process_computes_on_the_threads_asked_for() -> None:
    assert fresh.call(threads_there, threads=1) == 1
    assert fresh.call(threads_there, threads=3) == 3


def test_a_failure_in_a_fresh_process_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        fresh.call(divmod, 1, 0)


# ------------------------------------------------------------------------------- the workload


def test_the_workload_spikes_in_five_percent_of_the_steps(bench: benching.Bench) -> None:
    for task, work in bench.workloads.items():
        first = work.cut(images=8)
        activity = first.forward()
        for name, counts in activity.counts.items():
            rate = float(counts.float().mean()) / activity.steps
            assert rate == pytest.approx(0.05, rel=0.1), (task, name)
        assert len(work.images) == 32


def test_the_published_network_is_measured() -> None:
    p = benching.Bench(small_bench().params).published
    assert (p.channels, p.strides, p.hidden, p.batch_size) == ([16, 32, 64], [1, 2, 2], [256], 32)
    assert [len(p.tasks[i].classes) for i in (0, 1)] == [5, 5]


def test_cut_repeats_images_and_shortens_the_clock(bench: benching.Bench) -> None:
    work = bench.workloads["fast"].cut(images=40, steps=7)
    assert len(work.images) == 40 and len(work.steps) == 7
    assert (work.images[32] == work.images[0]).all()
    assert len(bench.workloads["fast"].steps) == 200


def test_higher_thresholds_are_quieter(bench: benching.Bench) -> None:
    fast = bench.workloads["fast"]
    assert 0 < passes.quieter(fast).spikes() < fast.spikes()


def test_training_moves_weights_and_keeps_the_activity(bench: benching.Bench) -> None:
    fast, images = bench.workloads["fast"], bench.images("fast")
    pupil = training.learner(bench.published, fast)
    before = pupil.network.layers[0].weight.clone()
    assert torch.equal(before, fast.network.layers[0].weight)
    for _, batch in zip(range(3), loading.endless(images), strict=False):
        pupil.learn(images, batch)
    after = pupil.network.layers[0].weight
    assert not torch.equal(after, before)
    assert torch.allclose(after, before, atol=1e-3)


def test_endless_batches_are_full_and_cover_every_epoch(bench: benching.Bench) -> None:
    images = bench.images("fast")
    per_epoch = len(images) // 32
    flow = loading.endless(images)
    seen = np.concatenate([next(flow).indices for _ in range(per_epoch)])
    assert len(set(seen)) == 32 * per_epoch
    assert len(next(flow)) == 32


def test_stages_of_training_cover_its_time(bench: benching.Bench) -> None:
    table = perf.stage_table(bench)
    assert list(table) == ["task", "stage", "seconds", "share"]
    named = ["loading", "forward pass and local update", "weight update", "readout", "rest"]
    for task, part in table.groupby("task"):
        assert list(part["stage"]) == named, task
        assert part["share"].sum() == pytest.approx(1)
        assert (part["seconds"] > 0).all()


def test_validation_is_the_accuracy_of_the_readout(bench: benching.Bench) -> None:
    images = bench.images("fast", "validation")
    pupil = training.learner(bench.published, bench.workloads["fast"])
    pupil.readout.weight = torch.zeros_like(pupil.readout.weight)
    pupil.readout.weight[-1, 2] = 1.0  # the bias: always class 2
    wanted = float((images.labels[:20] == 2).mean())
    assert training.validate(pupil, images, 20) == pytest.approx(wanted)


# ------------------------------------------------------------------------------- sweeps


def test_exponent_of_a_power() -> None:
    x = np.array([1.0, 2, 4, 8])
    assert growth.exponent(x, 3 * x**1.5) == pytest.approx(1.5)
    assert growth.exponent(x, np.full(4, 7.0)) == pytest.approx(0, abs=1e-12)
    assert np.isnan(growth.exponent(x[:1], x[:1]))


def test_sweeps_have_time_and_memory_at_every_size(bench: benching.Bench) -> None:
    """Those over grids have time alone."""
    frame = sweeps.table(bench)
    assert sweeps.table(bench) is frame  # measured once
    assert list(frame) == sweeps.COLUMNS
    wanted = {
        "batch size": bench.extent.images,
        "time steps": bench.extent.steps,
        "convolutions": bench.extent.depth,
        "loader processes": bench.extent.workers,
        "training images": bench.extent.training,
        "epochs": sweeps.EPOCHS,
    }
    grids = {
        "combinations of a grid": sweeps.GRID_COMBINATIONS,
        "epochs of a grid": sweeps.GRID_EPOCHS,
    }
    for (sweep, _), curve in frame.groupby(["sweep", "quantity"]):
        assert tuple(curve["x"]) == (wanted | grids)[sweep]
    number = 2 * sum(map(len, wanted.values())) + sum(map(len, grids.values()))
    assert len(frame) == number
    assert (frame["value"] > 0).all()


# ------------------------------------------------------------------------------- peers


def test_dense_work_is_all_currents_of_a_batch(bench: benching.Bench) -> None:
    """Multiply-adds done over one image and step, counted by the shapes of the results."""
    work = bench.workloads["slow"].cut(images=6)
    dense = peers.Convolutions(work, images=4, steps=8)
    assert dense.rounds == 2 * 3  # 4 + 2 images, 8 + 8 + 4 of 20 steps
    for index, layer in enumerate(work.network.layers):
        out = dense.currents(index)
        assert out.shape[0] == (4 * 8 if index else 6)
        assert out[0].numel() == 2 * layer.neurons
    dense.run()


installed = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(not peers.installed(name), reason="an optional extra"),
        )
        for name in peers.SETTINGS
    ],
)


@installed
@pytest.mark.filterwarnings("ignore")
def test_a_peer_does_the_same_work(name: str, bench: benching.Bench) -> None:
    work = bench.workloads["fast"].cut(images=3, steps=40)
    ours = work.forward().counts
    found = []
    for images, steps in [(3, 0), (2, 0), (3, 1), (3, 15)]:
        run = peers.forward(name, work, images, steps)
        found += [run(), run()]  # twice: it starts from rest
    for layer in ours:
        for counts in found:
            assert torch.equal(counts[layer], found[0][layer]), layer
        if name != "snntorch":
            assert torch.equal(found[0][layer].int().flatten(1), ours[layer].flatten(1)), layer
        else:  # its reset comes one step later
            rate = float(found[0][layer].mean()) / float(ours[layer].float().mean())
            assert 0.6 < rate < 1.4, (layer, rate)


def test_a_peer_that_is_not_installed_has_a_row(
    bench: benching.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "SETTINGS", {"no_such_library": [(1, 0)]})
    monkeypatch.setattr(bench, "extent", bench.extent._replace(settings=True))
    table = side_by_side.table(bench)
    assert list(table) == side_by_side.COLUMNS
    absent = table[table["peer"] == "no_such_library: not installed"]
    assert len(absent) and absent["peer_s"].isna().all() and absent["ratio"].isna().all()
    rest = table.drop(absent.index)
    assert rest["ratio"].to_numpy() == pytest.approx((rest["ours_s"] / rest["peer_s"]).to_numpy())
    assert {"fast forward (event)", "slow forward (portable)"} <= set(rest["work"])
    assert side_by_side.DENSE in set(rest["peer"])


def test_threads_are_compared_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "SETTINGS", {})
    table = side_by_side.table(small_bench(threads=2))
    assert set(table["threads"]) == {1, 2}
    assert len(table[table["peer"] == "one thread"]) == 4


# ------------------------------------------------------------------------------- all tables


def test_every_table_and_the_figure_are_written(
    bench: benching.Bench, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr(paths, "figures", lambda name: tmp_path / name)
    small = pd.DataFrame({"id": ["a"]})
    for name in ("table_guide", "table_bench"):
        monkeypatch.setitem(bench_tables.TABLES, name, lambda bench: small)
    made = perf.write(bench)
    assert [path.name for path in made] == [
        "table_guide.csv", "table_bench.csv", "table_stages.csv", "table_scaling.csv",
    ]  # fmt: skip
    for path in made:
        assert path.exists() and path.with_suffix(".md").exists()
    assert (tmp_path / bench.params.name / "scaling.pdf").exists()


def test_the_command_measures_with_the_file_and_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    given = []
    monkeypatch.setattr(perf, "write", lambda bench: given.append(bench.params) or ["made.csv"])
    smoke = str(paths.params() / "smoke.yaml")
    assert main(["bench", smoke, "--set", "name=other", "bench=full"]) == 0
    assert (given[0].name, given[0].bench, given[0].source) == ("other", "full", "digits")
    assert main(["bench"]) == 0
    assert (given[1].name, given[1].bench, given[1].source) == ("bench", "full", "mnist")
    assert capsys.readouterr().out == "made.csv\n" * 2
    assert main(["bench", "no/such.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: no/such.yaml: cannot read")
    assert len(given) == 2
