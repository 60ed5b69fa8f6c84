"""Generated streams: what they hold, what tells their classes and what does not; their tasks."""

import numpy as np
import pytest
import torch

from ltgate import methods, paths, results, train
from ltgate.data import open_task, sources
from ltgate.data.tasks import TaskSpec
from ltgate.errors import UserError
from ltgate.params import Params

SMALL = {
    "warp": {"warp_classes": 3, "warp_channels": 12, "warp_frames": 60, "warp_pattern": 20,
             "warp_samples": 60, "warp_test_samples": 40},
    "two_scales": {"scales_classes": 2, "scales_channels": 12, "scales_frames": 100,
                   "scales_fast": 10, "scales_slow": 60, "scales_samples": 40,
                   "scales_test_samples": 30},
    "delayed": {"delayed_channels": 8, "delayed_width": 3, "delayed_shortest": 5,
                "delayed_longest": 20, "delayed_samples": 60, "delayed_test_samples": 40},
}  # fmt: skip
SHAPES = {"warp": (60, 12, 1, 1), "two_scales": (100, 24, 1, 1), "delayed": (32, 8, 1, 1)}
SIZES = {"warp": (180, 120), "two_scales": (160, 120), "delayed": (120, 80)}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Build task files in a fresh root."""
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    monkeypatch.delenv("LTGATE_DATA_CACHE", raising=False)


def made(name, seed=0, **more):
    return sources.of(Params(source=name, **{**SMALL[name], **more}), seed)


def read(name, pool, seed=0, **more):
    """Frames [N, F, channels] and labels."""
    streams, labels = made(name, seed, **more).read(pool)
    return streams.dense()[..., 0, 0], labels


@pytest.mark.parametrize("name", SMALL)
def test_a_draw_has_its_shape_and_follows_its_seed_and_parameters(name):
    source = made(name)
    assert source.stream_shape == SHAPES[name] and source.image_shape == SHAPES[name][1:]
    for pool, size in zip(("train", "test"), SIZES[name], strict=True):
        streams, labels = source.read(pool)
        assert streams.shape == SHAPES[name] and len(streams) == len(labels) == size
        assert labels.dtype == np.uint8 and len(set(np.bincount(labels))) == 1  # balanced
        again = made(name).read(pool)
        assert np.array_equal(streams.events, again[0].events) and np.array_equal(labels, again[1])
        assert source.identity(pool) == made(name).identity(pool)
    parameter, value = list(SMALL[name].items())[-1]
    others = [made(name, seed=1), made(name, **{parameter: value + 1})]
    for other in others:
        assert other.identity("test") != source.identity("test")
        assert not np.array_equal(other.read("test")[0].events, source.read("test")[0].events)
    assert source.identity("train") != source.identity("test")


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("warp", {"warp_pattern": 61}, "warp_pattern = 61: must be at most warp_frames = 60"),
        ("two_scales", {"scales_slow": 101}, "scales_frames = 100: must be at least"),
        ("two_scales", {"scales_fast": 101}, "scales_frames = 100: must be at least"),
        ("delayed", {"delayed_shortest": 21}, "delayed_shortest = 21: must be at most .* = 20"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(name, more, told):
    with pytest.raises(UserError, match=told):
        made(name, **more)


# ------------------------------------------------------------------- what tells the classes


def accuracy(train_x, train_y, test_x, test_y):
    """Of the nearest class mean."""
    means = np.stack([train_x[train_y == label].mean(0) for label in np.unique(train_y)])
    far = ((test_x[:, None] - means) ** 2).sum(2)
    return (far.argmin(1) == test_y).mean()


def counts(frames):
    return frames.sum(1).astype(float)


def moments(frames):
    """Each channel's mean time, less that of its pattern (of twelve channels)."""
    number = np.maximum(counts(frames), 1)
    times = (frames * np.arange(frames.shape[1])[:, None]).sum(1) / number
    times = times.reshape(len(frames), -1, 12)
    return (times - times.mean(2, keepdims=True)).reshape(len(frames), -1)


def shuffled(frames):
    """Frames of every channel and sample in random order."""
    return np.random.default_rng(0).permuted(frames, axis=1)


LARGER = {
    "warp": {"warp_samples": 300, "warp_test_samples": 300, "warp_noise": 0.05},
    "two_scales": {"scales_samples": 250, "scales_test_samples": 250, "scales_repeats": 1,
                   "scales_noise_fast": 0.02, "scales_noise_slow": 0.02},
}  # fmt: skip


@pytest.mark.parametrize(("name", "classes"), [("warp", 3), ("two_scales", 4)])
def test_times_tell_the_class_and_counts_do_not(name, classes):
    pools = [read(name, pool, **LARGER[name]) for pool in ("train", "test")]

    def of(seen):
        (x, y), (u, v) = [(seen(frames), labels) for frames, labels in pools]
        return accuracy(x, y, u, v)

    spread = np.sqrt((1 - 1 / classes) / classes / len(pools[1][1]))
    for blind in (counts, lambda x: counts(shuffled(x)), lambda x: moments(shuffled(x))):
        assert abs(of(blind) - 1 / classes) < 4 * spread
    assert of(moments) > 1 / classes + 5 * spread


def test_each_half_of_two_scales_tells_its_own_part():
    (x, y), (u, v) = [
        read("two_scales", pool, **LARGER["two_scales"]) for pool in ("train", "test")
    ]
    found = np.array([  # part of the label by half of the channels
        [accuracy(moments(x[..., half]), y_part, moments(u[..., half]), v_part)
         for y_part, v_part in ((y // 2, v // 2), (y % 2, v % 2))]
        for half in (slice(12), slice(12, 24))
    ])  # fmt: skip
    spread = 0.5 / np.sqrt(len(v))
    assert (np.abs(found[[0, 1], [1, 0]] - 0.5) < 4 * spread).all()
    assert (found[[0, 1], [0, 1]] > 0.5 + 8 * spread).all()


@pytest.mark.parametrize(
    ("repeats", "noise_slow", "rates"),
    [(5, 0.15, (9.5, 1.225)), (4, 5.0, (8.5, 8.5))],  # as it comes; event rates matched
)
def test_event_rates_of_two_scales(repeats, noise_slow, rates):
    """Events per channel: repeats + noise frames / length, and 1 + noise frames / length."""
    more = {"scales_repeats": repeats, "scales_noise_slow": noise_slow, "scales_samples": 40}
    source = sources.of(Params(source="two_scales", **more))
    frames = source.read("train")[0].dense()[..., 0, 0]
    found = [counts(frames[..., half]).mean() for half in (slice(40), slice(40, 80))]
    assert found == pytest.approx(rates, rel=0.03)  # events of one frame become one


def test_delayed_is_silent_between_cue_and_probe_and_needs_both():
    frames, labels = read("delayed", "train", delayed_burst=1.0, delayed_noise=0.0)
    loud = frames.any(2)
    halves = frames[:, :, [0, -1]]  # the first channel of either half stands for it
    silences = []
    for sample, half, label in zip(loud, halves, labels, strict=True):
        (times,) = np.nonzero(sample)
        assert times[:3].tolist() == [0, 1, 2] and len(times) == 6  # two bursts of three frames
        assert times[3] + 2 == times[5]
        silences.append(times[3] - 3)
        assert (half[0].argmax() != half[times[3]].argmax()) == label
    assert min(silences) >= 5 and max(silences) <= 20 and len(set(silences)) > 10
    pools = [read("delayed", pool, delayed_noise=0.0, delayed_samples=400, delayed_test_samples=400)
             for pool in ("train", "test")]  # fmt: skip
    (x, y), (u, v) = pools
    for part in (slice(0, 3), slice(3, None)):  # cue alone, probe alone
        found = accuracy(counts(x[:, part]), y, counts(u[:, part]), v)
        assert abs(found - 0.5) < 4 * 0.5 / np.sqrt(len(v))


# ------------------------------------------------------------------------------------ tasks


def tasks(*classes, rates=(1000.0, 50.0), frames=60):
    return [
        TaskSpec(name=f"t{i}", classes=own, frame_rate_hz=rate, duration_ms=frames * 1000 / rate)
        for i, (own, rate) in enumerate(zip(classes, rates, strict=True))
    ]


def test_same_classes_make_the_scenario_domain_and_shared_ones_are_refused():
    same = Params(source="warp", tasks=tasks([0, 1, 2], [2, 0, 1]))
    apart = Params(source="warp", tasks=tasks([0, 1], [2]))
    assert train.Trial(same, "gate_layer", 0).scenarios == ("domain",)
    assert train.Trial(apart, "gate_layer", 0).scenarios == ("class", "task")
    with pytest.raises(UserError, match="class 1 is in both 't0' and 't1'; a class belongs to one"):
        Params(source="warp", tasks=tasks([0, 1], [1, 2]))


def test_a_task_of_another_number_of_frames_is_told_its_duration():
    params = Params(
        source="warp", tasks=tasks([0, 1, 2], rates=(50.0,), frames=59), **SMALL["warp"]
    )
    with pytest.raises(UserError, match=r"shows 59 frames; .* has 60: at 50 Hz its .* is 1200"):
        open_task(params, params.tasks[0], "train", 0)


def test_classes_that_are_no_pairs_are_refused():
    with pytest.raises(UserError, match=r"pairs_of = 2: .*3 classes; needed are 0 to 3"):
        Params(source="warp", pairs_of=2, tasks=tasks([0, 1, 2], rates=(50.0,)))


TRAINED = {
    **SMALL["warp"], "source": "warp", "name": "streams", "tasks": tasks([0, 1, 2], [0, 1, 2]),
    "channels": [], "strides": [], "hidden": [10], "readout_layers": ["dense"], "control": False,
    "filters": "random", "projector": "none", "balanced": False, "device": "cpu", "threads": 1,
    "fan_in": 4, "same_weights": True, "train_images": 64, "test_images": 20,
}  # fmt: skip


def test_rates_that_were_not_learned_have_rows_of_their_own():
    params = Params(**TRAINED, methods=["gate_static"], other_rates=[200.0, 12.5])
    train.run(params)
    rows = results.load(paths.run("streams"))
    assert set(rows[rows["metric"] == "accuracy"]["scenario"]) == {"domain"}
    other = rows[rows["metric"].str.startswith("accuracy/")]
    assert other[["step", "metric"]].values.tolist() == [
        [step, f"accuracy/{rate}Hz/frame"] for step in (0, 1) for rate in ("200", "12.5")
    ]
    assert set(other["scenario"]) == {"domain"} and other["value"].between(0, 1).all()


@pytest.mark.parametrize("same", [True, False])
def test_compartments_start_with_one_set_of_weights_if_asked(same):
    params = Params(**{**TRAINED, "same_weights": same}, methods=["gate_static"])
    fast, slow = (
        methods.create("gate_static", params, np.random.default_rng(0)).network.layers[0].weight
    )
    assert ((fast != 0).sum(1) == 4).all() and ((fast != 0) == (slow != 0)).all()
    assert (fast == slow).all() == same


def test_filters_learn_from_traces_of_the_first_task_one_filter_a_neuron():
    params = Params(
        **{**TRAINED, "filters": "first", "fan_in": 0}, methods=["gate_layer"],
        filter_taus_ms=[20.0, 100.0], filter_passes=2,
    )  # fmt: skip
    trial = train.Trial(params, "gate_layer", 0)
    learner = trial.learner()
    drawn = learner.network.layers[0].weight
    learner.begin_task(0, trial.open(0, "train"))
    fast, slow = found = learner.network.layers[0].weight
    assert torch.equal(fast, slow) and not torch.equal(found, drawn)
    np.testing.assert_allclose(found.square().sum(2), 1, atol=1e-5)
    of_counts = train.Trial(params.with_(filter_taus_ms=[]), "gate_layer", 0).learner()
    of_counts.begin_task(0, trial.open(0, "train"))
    assert not torch.equal(of_counts.network.layers[0].weight, found)
