"""Measuring itself: times, memory, stages, sweeps, peers, the report. No time is ever asserted."""

import importlib.util
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from small_bench import small_bench

from ltgate import paths
from ltgate.__main__ import main
from ltgate.perf import bench as benching
from ltgate.perf import (
    compare,
    dense,
    fresh,
    gpu,
    loading,
    memory,
    passes,
    peers,
    report,
    stages,
    sweeps,
    timing,
    training,
)


@pytest.fixture(scope="module")
def bench() -> benching.Bench:
    return small_bench()


# ------------------------------------------------------------------------------- times and stages


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


def test_stages_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(stages.time, "perf_counter", lambda: now[0])

    class Learner:
        def step(self, seconds: float) -> str:
            now[0] += seconds
            return "done"

    pupil, clock = Learner(), stages.Stages()
    clock.attach(pupil, "step", "update")

    def batches():
        for number in range(2):
            now[0] += 0.5
            yield number

    for _ in clock.each(batches(), "loading"):
        assert pupil.step(3.0) == "done"
    now[0] += 1.0
    table = clock.table(total=now[0], batches=2).set_index("stage")
    assert table["seconds"].to_dict() == {"loading": 0.5, "update": 3.0, "rest": 0.5}
    assert table["share"].sum() == 1
    assert Learner().step(0.0) == "done" and clock.calls["update"] == 2  # no other object


# ------------------------------------------------------------------------------- memory


def allocate(megabytes: int) -> None:
    np.ones(megabytes * 125_000)


def test_peak_memory_counts_what_a_call_lets_go_again() -> None:
    found = memory.peaks(allocate, (1,), [(100,), (10,), (50,)], threads=1)
    megabytes = [peak.above_start / 1e6 for peak in found]
    assert megabytes == pytest.approx([100, 10, 50], abs=5)
    assert all(peak.start > 1e7 for peak in found)


def threads_there() -> int:
    return torch.get_num_threads()


def test_a_fresh_process_computes_on_the_threads_asked_for() -> None:
    assert fresh.call(threads_there, threads=1) == 1
    assert fresh.call(threads_there, threads=3) == 3


def test_a_failure_in_a_fresh_process_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        fresh.call(divmod, 1, 0)


# ------------------------------------------------------------------------------- GPU


def test_without_a_gpu_the_monitor_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with gpu.watch() as load:
        pass
    assert not load.utilisation and str(load) == "no GPU"


def test_gpu_load_comes_from_nvidias_library(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    library = types.SimpleNamespace(
        nvmlInit=lambda: calls.append("init"),
        nvmlShutdown=lambda: calls.append("shutdown"),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUtilizationRates=lambda device: types.SimpleNamespace(gpu=50),
        nvmlDeviceGetMemoryInfo=lambda device: types.SimpleNamespace(used=2_000_000_000),
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with gpu.watch(interval=0.001) as load:
        pass
    assert str(load) == "50% busy, 2.00 GB"
    assert calls == ["init", "shutdown"]

    monkeypatch.setitem(sys.modules, "pynvml", None)
    with gpu.watch() as load:
        pass
    assert str(load) == "nvidia-ml-py is not installed"


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
    assert sweeps.exponent(x, 3 * x**1.5) == pytest.approx(1.5)
    assert sweeps.exponent(x, np.full(4, 7.0)) == pytest.approx(0, abs=1e-12)
    assert np.isnan(sweeps.exponent(x[:1], x[:1]))


def test_sweeps_have_time_and_memory_at_every_size(bench: benching.Bench) -> None:
    frame = sweeps.table(bench)
    assert sweeps.table(bench) is frame  # measured once
    assert list(frame) == sweeps.COLUMNS
    wanted = {
        "batch size": bench.sizes.images,
        "time steps": bench.sizes.steps,
        "convolutions": bench.sizes.depth,
        "loader processes": bench.sizes.workers,
        "training images": bench.sizes.training,
        "epochs": sweeps.EPOCHS,
    }
    for (sweep, _), curve in frame.groupby(["sweep", "quantity"]):
        assert tuple(curve["x"]) == wanted[sweep]
    assert len(frame) == 2 * sum(map(len, wanted.values()))
    assert (frame["value"] > 0).all()


# ------------------------------------------------------------------------------- peers


def test_dense_work_is_all_currents_of_a_batch(bench: benching.Bench) -> None:
    """Multiply-adds done over one image and step, counted by the shapes of the results."""
    work = bench.workloads["slow"].cut(images=6)
    floor = dense.Convolutions(work, images=4, steps=8)
    assert floor.rounds == 2 * 3  # 4 + 2 images, 8 + 8 + 4 of 20 steps
    for index, layer in enumerate(work.network.layers):
        out = floor._currents(index)
        assert out.shape[0] == (4 * 8 if index else 6)
        assert out[0].numel() == 2 * layer.neurons
    floor.run()


installed = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(name) is None, reason="an optional extra"
            ),
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
    for images, folded in [(3, True), (2, True), (3, False)]:
        run = peers.forward(name, work, images, folded)
        found += [run(), run()]  # twice: it starts from rest
    for layer in ours:
        for counts in found:
            assert torch.equal(counts[layer], found[0][layer]), layer
        if name == "spikingjelly":
            assert torch.equal(found[0][layer].int().flatten(1), ours[layer].flatten(1)), layer
        else:  # its reset comes one step later
            rate = float(found[0][layer].mean()) / float(ours[layer].float().mean())
            assert 0.6 < rate < 1.4, (layer, rate)


def test_a_peer_that_is_not_installed_has_a_row(
    bench: benching.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "SETTINGS", {"no_such_library": [(1, True)]})
    monkeypatch.setattr(bench, "sizes", bench.sizes._replace(settings=True))
    table = compare.table(bench)
    assert list(table) == compare.COLUMNS
    absent = table[table["peer"] == "no_such_library: not installed"]
    assert len(absent) and absent["peer_s"].isna().all() and absent["ratio"].isna().all()
    rest = table.drop(absent.index)
    assert rest["ratio"].to_numpy() == pytest.approx((rest["ours_s"] / rest["peer_s"]).to_numpy())
    assert {"fast forward (event)", "slow forward (portable)"} <= set(rest["work"])
    assert compare.DENSE in set(rest["peer"])


def test_threads_are_compared_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "SETTINGS", {})
    table = compare.table(small_bench(threads=2))
    assert set(table["threads"]) == {1, 2}
    assert len(table[table["peer"] == "one thread"]) == 4


# ------------------------------------------------------------------------------- the report


def test_the_report_writes_every_table_and_the_figure(
    bench: benching.Bench, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr(paths, "figures", lambda name: tmp_path / name)
    monkeypatch.setattr(report, "Bench", lambda params: bench)
    monkeypatch.setattr(peers, "SETTINGS", {})
    small = pd.DataFrame({"id": ["a"]})
    monkeypatch.setattr(report.guide, "table", lambda bench: small)
    made = report.run(bench.params)
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
    monkeypatch.setattr(report, "run", lambda params: given.append(params) or ["made.csv"])
    smoke = str(paths.params() / "smoke.yaml")
    assert main(["bench", smoke, "--set", "name=other", "bench=full"]) == 0
    assert (given[0].name, given[0].bench, given[0].source) == ("other", "full", "digits")
    assert main(["bench"]) == 0
    assert (given[1].name, given[1].bench, given[1].source) == ("bench", "full", "mnist")
    assert capsys.readouterr().out == "made.csv\n" * 2
    assert main(["bench", "no/such.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: no/such.yaml: cannot read")
    assert len(given) == 2
