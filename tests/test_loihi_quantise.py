"""From float to integers: errors, headroom, agreement; deployment of a trained network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ltgate import backends, fixed_point, metrics, neurons
from ltgate.data.tasks import FAST, TaskSpec, schedule
from ltgate.errors import UserError
from ltgate.loihi import deploy, lava_backend, lava_check, learning, quantise, twin
from ltgate.loihi.quantise import Samples
from ltgate.network import create
from ltgate.neurons import Dynamics
from ltgate.params import Params

pytestmark = pytest.mark.usefixtures("one_thread")
lava_needed = pytest.mark.skipif(not lava_backend.available(), reason=lava_backend.missing())


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Params:
    """Short samples of a few digits."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTGATE_HOME", str(folder))
        patch.setenv("LTGATE_PROGRESS", "off")
        yield Params(
            tasks=[
                TaskSpec(name="fast", classes=[0, 1], frame_rate_hz=1000.0, duration_ms=40.0),
                TaskSpec(name="slow", classes=[2, 3], frame_rate_hz=50.0, duration_ms=100.0),
            ],
            channels=[4, 6, 8], hidden=[4], train_images=60, validation_images=20, test_images=40,
            hebbian_images=40, threads=1, target_rate=0.1,
        )  # fmt: skip


@pytest.fixture(scope="module")
def deployed(small: Params) -> deploy.Deployment:
    return deploy.deploy(deploy.trial(small))


def network(**options):
    net = create(
        Dynamics(**options), [4, 6], [1, 2], [5], np.random.default_rng(0), (1, 12, 12), 0.4
    )
    for layer in net.layers:
        layer.threshold = layer.threshold * torch.linspace(0.5, 3, layer.out_shape[0])
    return net


def samples(name: str = "pulse") -> list[Samples]:
    images = np.random.default_rng(1).integers(0, 256, (4, 12, 12), dtype=np.uint8)
    return [Samples(images, schedule(FAST, name))]


@pytest.mark.parametrize("tau", [2.0, 5.0, 20.0, 100.0, 500.0])
def test_decays_are_the_nearest_of_12_bits(tau: float) -> None:
    kept = (4096 - fixed_point.decay(tau)) / 4096
    assert abs(kept - np.exp(-1 / tau)) <= 0.5 / 4096 + 1e-12
    chip = Dynamics((fixed_point.effective_tau(tau),)).decay(1.0)
    assert chip[0] == np.float32(kept)  # a network trained with it decays as the chip does


@pytest.mark.parametrize("bits", range(2, 9))
def test_rounded_weights_fit_and_stay_what_they_are(bits: int) -> None:
    weight = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(bits))
    integers, k = fixed_point.weight_integers(weight, bits)
    assert int(integers.abs().max()) <= 2 ** (bits - 1) - 1
    rounded = fixed_point.round_weights(weight, bits)
    assert torch.equal(rounded, integers * 2.0**-k)
    assert float((rounded - weight).abs().max()) <= 2.0 ** -(k + 1) + 1e-7
    assert torch.equal(fixed_point.round_weights(rounded, bits), rounded)


def assert_near(net, shown: list[Samples]) -> None:
    """Integers spike almost as often as floats do, and no membrane saturates."""
    integers = quantise.quantise(net, shown)
    table = quantise.report(net, integers, shown)
    assert list(table["layer"].unique()) == net.names
    assert not table["saturated"].any() and (table["headroom_bits"] >= 0.9).all()
    assert (table["weight_error"] < 0.02).all()
    counts = twin.forward(integers, shown[0].images, shown[0].steps.drive).counts
    theirs = backends.forward(net, shown[0].images, shown[0].steps).counts
    for name in net.names:
        assert theirs[name].sum() > 100
        gap = (counts[name] - theirs[name]).abs().sum() / theirs[name].sum()
        assert gap < 0.1, name


@pytest.mark.parametrize("options", [{}, {"output": "blend"}, {"reset": "zero"},
                                     {"tau_ms": (20.0,)}])  # fmt: skip
def test_integers_spike_almost_as_the_float_network_does(options) -> None:
    assert_near(network(**options), samples())


@pytest.mark.parametrize("output", ["or", "blend"])
def test_streams_spike_in_integers_almost_as_in_floats(output: str) -> None:
    random = np.random.default_rng(2)
    net = create(Dynamics(output=output), [], [], [30, 8], random, (40, 1, 1), 0.3, weight_scale=3)
    events = (random.random((6, 160, 40, 1, 1)) < 0.03).astype(np.uint8)
    task = TaskSpec(name="t", classes=[0], frame_rate_hz=250.0, duration_ms=640.0)
    assert_near(net, [Samples(events, schedule(task, "pulse"))])


@pytest.mark.parametrize(
    ("options", "presentation", "words"),
    [
        ({"output": "mine"}, "pulse", "output='mine': the integer neurons .* know or . blend"),
        ({"current": "normalised"}, "pulse", "current='normalised'"),
        ({"output": "blend", "follows": "layer"}, "pulse", "follows='layer' with 2 compartments"),
        ({"output": "blend", "tau_ms": (5.0, 22.0, 100.0)}, "pulse", "with 3 compartments: the"),
        ({}, "frame", "presentation='frame'"),
    ],
)
def test_what_one_chip_cannot_do_is_refused(options, presentation, words, monkeypatch) -> None:
    monkeypatch.setitem(neurons.OUTPUTS, "mine", neurons.OUTPUTS["or"])
    with pytest.raises(UserError, match=words):
        quantise.quantise(network(**options), samples(presentation))


def test_chip_aware_training_leaves_nothing_to_round(deployed: deploy.Deployment) -> None:
    table = quantise.report(deployed.learner.used, deployed.net, deployed.samples)
    assert (table["weight_error"] == 0).all()
    np.testing.assert_allclose(table["tau_ms"], table["tau_chip_ms"])


@pytest.mark.parametrize("method", ["lt_gate", "hlop"])
def test_deployed_accuracy_is_near_the_float_ones(small: Params, method: str) -> None:
    """``hlop`` has gradients that go straight through: its learning copy is finer."""
    made = deploy.deploy(replace(deploy.trial(small), method=method))
    for layer in made.learner.used.layers:
        rounded = fixed_point.round_weights(layer.forward_weight, small.chip_bits)
        assert torch.equal(rounded, layer.forward_weight)
        assert method != "hlop" or not torch.equal(layer.weight, layer.forward_weight)
    table = deploy.compare(made, [deploy.evaluate(made, position) for position in range(2)])
    assert len(table) == 8
    means = table.groupby(["trained", "runs_as"])["accuracy"].mean()
    assert means["chip-aware", "integers"] > (0.7 if method == "lt_gate" else 0)  # learned
    assert means["chip-aware", "float"] - means["chip-aware", "integers"] <= 0.05


def test_counted_synaptic_operations(deployed: deploy.Deployment) -> None:
    """Against a count from the rasters, one spike at a time."""
    done = deploy.evaluate(deployed, 0, "validation", limit=2)
    images = deployed.trial.open(0, "validation").images[:2]
    drive = deployed.samples[0].steps.drive
    run = twin.forward(deployed.net, images, drive)
    for before, layer in zip(deployed.net.layers, deployed.net.layers[1:], strict=False):
        weight = torch.ones(layer.out_shape[0], layer.in_shape[0], 3, 3)
        reached = torch.nn.functional.conv2d(
            run.counts[before.name].float(), weight, stride=layer.stride, padding=1
        )
        assert done.synops[layer.name] == int(reached.sum()) * deployed.net.compartments
        assert done.spikes[before.name] == int(run.counts[before.name].sum())


@pytest.fixture(scope="module")
def streamed(small: Params) -> deploy.Deployment:
    """Streams at two speeds under a gate that stays."""
    tasks = [
        TaskSpec(name=name, classes=[0, 1], frame_rate_hz=rate, duration_ms=40_000 / rate)
        for name, rate in (("fast", 1000.0), ("slow", 200.0))
    ]
    params = Params(
        source="warp", warp_classes=2, warp_channels=16, warp_frames=40, warp_pattern=20,
        warp_samples=60, warp_test_samples=20, tasks=tasks, channels=[], strides=[], hidden=[24],
        fan_in=6, balanced=False, filters="random", projector="none", readout_layers=["dense"],
        target_rate=0.05, threads=1, control=False,
    )  # fmt: skip
    return deploy.deploy(replace(deploy.trial(params), method="gate_static"))


def test_streams_are_deployed(streamed: deploy.Deployment) -> None:
    for position in range(2):
        events, drive = streamed.shown(position, "test")
        done = deploy.evaluate(streamed, position)
        images = streamed.trial.open(position, "test")
        theirs = metrics.accuracy(streamed.learner.scores(images).numpy(), images.labels, [0, 1])
        assert abs(done.accuracy - theirs) <= 0.1
        wired = streamed.net.layers[0]
        assert done.messages == events.sum() and done.samples == 40 and done.steps == len(drive)
        assert done.synops["dense1"] == events.sum() * 2 * wired.out_shape[0]
    assert min(done.spikes.values()) > 100


@lava_needed
@pytest.mark.filterwarnings("ignore")
def test_lava_has_all_spikes_of_deployed_streams(streamed: deploy.Deployment) -> None:
    table = lava_check.compare(streamed, 4)
    assert table["equal"].tolist() == [1, 1] and table["spikes"].min() > 10


def test_readout_that_the_chip_has_not_is_refused(streamed: deploy.Deployment) -> None:
    params = streamed.trial.params.with_(root_counts=True)
    told = r"root_counts = true: the chip's readout .* set it to false"
    with pytest.raises(UserError, match=told):
        deploy.deploy(replace(streamed.trial, params=params))


def test_readout_in_integers_scores_as_the_float_one_does(deployed: deploy.Deployment) -> None:
    learner = deployed.learner
    images = deployed.trial.open(0, "validation")
    run = backends.forward(learner.used, images.images[:], deployed.samples[0].steps)
    scores = deployed.readout.scores(run.counts)
    theirs = learner.scores(images).numpy()
    assert np.abs(scores - theirs).max() < 0.05 * np.abs(theirs).max()
    assert all(part.weight.dtype == np.int8 for part in deployed.readout.views)


def test_readout_without_norms() -> None:
    weight = torch.tensor([[0.5, -0.25], [0.1, 0.0], [1.0, 2.0]], dtype=torch.float64)
    made = quantise.readout(weight, {"dense1": 2}, normalise=False)
    counts = {"dense1": torch.tensor([[3, 1]]).reshape(1, 2, 1, 1)}
    scores = made.scores(counts)
    np.testing.assert_allclose(scores, [[0.5 * 3 + 0.1 + 1, -0.25 * 3 + 2]], atol=0.02)


@lava_needed
@pytest.mark.filterwarnings("ignore")
def test_the_chips_learning_rule_in_lava_is_the_one_written(deployed: deploy.Deployment) -> None:
    assert lava_check.rule(deployed, samples=2) < 1e-3
    trial = replace(deployed.trial, params=deployed.trial.params.model_copy(
        update={"tau_fast_ms": 8.0, "tau_slow_ms": 40.0}))  # fmt: skip
    other = replace(deployed, trial=trial)
    assert learning.show(other, 0, "train", 1).tau.tolist() == [8.0, 40.0]
    assert lava_check.rule(other, samples=2) < 1e-3


def shown(spikes: np.ndarray, labels: list[int], taught: list[int], classes: int, taus):
    packed, half = np.packbits(spikes, axis=2), np.array([0.5, 0.5])
    return learning.Shown(
        packed, spikes.shape[2], np.array(labels), taught, classes, np.array(taus), half
    )


def test_the_chips_learning_rule_by_hand() -> None:
    """Eight spikes at the first of 11 steps: x = exp(-10/tau), r = 8 exp(-9/tau), shift 1/4."""
    spikes = np.zeros((1, 11, 8), bool)
    spikes[:, 0] = True
    for taus in ((20.0, 50.0), (15.0, 80.0)):
        ((_, weight),) = learning.lessons(shown(spikes, [1], [1], 2, taus), np.zeros((2, 2, 8)))
        assert (weight[:, 0] == 0).all()
        for found, tau in zip(weight[:, 1], taus, strict=True):
            expected = learning.ETA * np.exp(-10 / tau) * 0.5 / 4 * learning.TARGET
            np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("activity", [0.1, 0.01])
def test_the_chips_learning_rule_learns(activity: float, rounded: bool) -> None:
    """Two classes with inputs of their own, and others that both share; many spikes, and few."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 24)
    rates = np.full((2, 60), activity)
    rates[0, :20] = rates[1, 20:40] = 3 * activity
    spikes = random.random((24, 50, 60)) < rates[labels][:, None]
    lesson, weight = shown(spikes, labels, [0, 1], 3, (5.0, 100.0)), np.zeros((2, 3, 60))
    generator = random if rounded else None
    for _ in range(3):
        *_, (_, weight) = learning.lessons(lesson, weight, generator)
    counts = learning.answer(lesson, weight)
    assert (counts.argmax(1) == labels).mean() > 0.8
    assert (weight[:, 2] == 0).all()  # no lesson was about it
    assert not rounded or (weight / learning.LSB == np.rint(weight / learning.LSB)).all()
