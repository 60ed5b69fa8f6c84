"""Measuring itself: times, memory, sweeps, peers, the tables. No time is ever asserted."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from small_bench import small_bench
from torch.utils.flop_counter import FlopCounterMode

from ltgate import paths, perf
from ltgate.__main__ import main
from ltgate.perf import bench_tables, machine, measure, peers, side_by_side, sweeps, training
from ltgate.perf.bench import Bench


@pytest.fixture(scope="module")
def bench() -> Bench:
    return small_bench()


# times and memory


def test_works_take_turns_and_the_shortest_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = iter([0.0, 3.0, 3.0, 8.0, 10.0, 12.0, 20.0, 26.0])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(times))
    assert measure.interleaved(works, 2) == {"a": 2.0, "b": 5.0}
    assert calls == list("abab")


def allocate(megabytes: int) -> None:
    np.ones(megabytes * 125_000)


def test_peak_memory_counts_what_a_call_lets_go_again() -> None:
    works = [partial(allocate, megabytes) for megabytes in (100, 10, 50)]
    found = measure.peaks(partial(allocate, 1), works)
    assert [peak / 1e6 for peak in found] == pytest.approx([100, 10, 50], abs=5)


def test_a_fresh_process_has_the_threads_asked_for_and_its_failures_are_raised_here() -> None:
    assert measure.fresh(torch.get_num_threads, threads=3) == 3
    with pytest.raises(ZeroDivisionError):
        measure.fresh(divmod, 1, 0)


# the workload


def test_the_workload_spikes_in_five_percent_of_the_steps(bench: Bench) -> None:
    for task, work in bench.workloads.items():
        activity = work.cut(images=8).forward()
        for name, counts in activity.counts.items():
            rate = float(counts.float().mean()) / activity.steps
            assert rate == pytest.approx(0.05, rel=0.1), (task, name)
        assert len(work.images) == 32
        assert 0 < machine.quieter(work).spikes() < work.spikes()


def test_the_published_network_is_measured_and_cut(bench: Bench) -> None:
    p = Bench(small_bench().params).published
    assert (p.channels, p.strides, p.hidden, p.batch_size) == ([16, 32, 64], [1, 2, 2], [256], 32)
    assert [len(p.tasks[i].classes) for i in (0, 1)] == [5, 5]
    work = bench.workloads["fast"].cut(images=40, steps=7)
    assert len(work.images) == 40 and len(work.steps) == 7
    assert (work.images[32] == work.images[0]).all()
    assert len(bench.workloads["fast"].steps) == 200


def test_training_moves_weights_and_keeps_the_activity(bench: Bench) -> None:
    fast, images = bench.workloads["fast"], bench.images("fast")
    pupil = training.learner(bench.published, fast)
    before = pupil.network.layers[0].weight.clone()
    assert torch.equal(before, fast.network.layers[0].weight)
    flow = training.endless(images)
    seen = [next(flow) for _ in range(len(images) // 32)]
    assert len(set(np.concatenate([batch.indices for batch in seen]))) == 32 * len(seen)
    for _ in range(3):
        pupil.learn(images, next(flow))
    after = pupil.network.layers[0].weight
    assert not torch.equal(after, before)
    assert torch.allclose(after, before, atol=1e-3)


def test_stages_of_training_cover_its_time(bench: Bench) -> None:
    table = perf.stage_table(bench)
    assert list(table) == ["task", "stage", "seconds", "share"]
    named = ["loading", "forward pass and local update", "weight update", "readout", "rest"]
    for task, part in table.groupby("task"):
        assert list(part["stage"]) == named, task
        assert part["share"].sum() == pytest.approx(1)
        assert (part["seconds"] > 0).all()


# sweeps


def test_exponent_of_a_power() -> None:
    x = np.array([1.0, 2, 4, 8])
    assert sweeps.exponent(x, 3 * x**1.5) == pytest.approx(1.5)
    assert sweeps.exponent(x, np.full(4, 7.0)) == pytest.approx(0, abs=1e-12)
    assert np.isnan(sweeps.exponent(x[:1], x[:1]))


def test_sweeps_have_time_and_memory_at_every_size(bench: Bench) -> None:
    """Those over grids have time alone."""
    frame = sweeps.table(bench)
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
    assert len(frame) == 2 * sum(map(len, wanted.values())) + sum(map(len, grids.values()))
    assert (frame["value"] > 0).all()


def test_the_best_batch_is_the_last_that_gains(bench: Bench, monkeypatch) -> None:
    frame = sweeps.table(bench).copy()
    sizes = (frame["sweep"] == "batch size") & (frame["quantity"] == "time")
    frame.loc[sizes, "value"] = [1.0, 1.0, 1.96]  # 1, 2, 4 images: 1, 2, 2.04 images/s
    monkeypatch.setattr(sweeps, "table", lambda bench: frame)
    facts = sweeps.costs(bench)
    names = ("best_batch", "best_rate", "best_gain", "smallest")
    assert [facts[name] for name in names] == [2, 2.0, 2.0, 1]


# peers


def test_dense_work_is_all_currents_of_a_batch(bench: Bench) -> None:
    work = bench.workloads["slow"].cut(images=8)
    run = peers.convolutions(work, images=4, steps=10)
    with FlopCounterMode(display=False) as counter:
        run()
    first, *others = (
        2 * 2 * layer.neurons * layer.weight[0, 0].numel() for layer in work.network.layers
    )
    assert counter.get_total_flops() == 8 * (first + 20 * sum(others))


@pytest.mark.parametrize("name", [name for name in peers.SETTINGS if name != peers.DENSE])
@pytest.mark.filterwarnings("ignore")
def test_a_peer_does_the_same_work(name: str, bench: Bench) -> None:
    if not peers.installed(name):
        pytest.skip("an optional extra")
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


def test_peers_and_threads_have_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "SETTINGS", {peers.DENSE: [(8, 20)], "no_such_library": [(1, 0)]})
    table = side_by_side.table(small_bench(threads=2))
    assert list(table) == side_by_side.COLUMNS
    absent = table[table["peer"] == "no_such_library: not installed"]
    assert len(absent) and absent["peer_s"].isna().all() and absent["ratio"].isna().all()
    rest = table.drop(absent.index)
    assert rest["ratio"].to_numpy() == pytest.approx((rest["ours_s"] / rest["peer_s"]).to_numpy())
    assert {"fast forward (event)", "slow forward (portable)"} <= set(rest["work"])
    named = ["ours (portable)", "its forward alone", "one thread", peers.DENSE]
    assert rest["peer"].value_counts()[named].tolist() == [6, 4, 4, 8]
    assert set(table["threads"]) == {1, 2}


# all tables


def test_every_table_and_the_figure_are_written(bench: Bench, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(paths, "figures", lambda name: tmp_path / name)
    for name in ("table_guide", "table_bench"):
        monkeypatch.setitem(bench_tables.TABLES, name, lambda bench: pd.DataFrame({"id": ["a"]}))
    made = perf.write(bench)
    assert [path.stem for path in made] == [*bench_tables.TABLES]
    assert all(path.exists() and path.with_suffix(".md").exists() for path in made)
    assert (tmp_path / bench.params.name / "scaling.pdf").exists()


def test_the_command_measures_with_the_file_and_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    given = []
    monkeypatch.setattr(perf, "write", lambda bench: given.append(bench.params) or ["made.csv"])
    smoke = str(paths.params() / "smoke.yaml")
    assert main(["bench", smoke, "--set", "name=other", "bench=full"]) == 0
    assert main(["bench"]) == 0
    assert [(p.name, p.bench, p.source) for p in given] == [
        ("other", "full", "digits"), ("bench", "full", "mnist"),
    ]  # fmt: skip
    assert capsys.readouterr().out == "made.csv\n" * 2
    assert main(["bench", "no/such.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: no/such.yaml: cannot read")
