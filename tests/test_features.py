"""Views of spike counts against explicit sums; the cache is used, and never for another network."""

import numpy as np
import pytest
import torch

from ltgate import backends, features
from ltgate.backends import portable
from ltgate.data.store import TaskImages
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.errors import UserError
from ltgate.network import create
from ltgate.neurons import Dynamics

TASK = TaskSpec(name="t", classes=[0, 1], frame_rate_hz=1000.0, duration_ms=6.0)
VIEWS = ["conv1/2", "conv2", "conv1/4", "dense1", "conv1"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A fresh cache."""
    monkeypatch.setenv("LTGATE_DATA_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def network():
    """Convolutions of 8 x 8 and 4 x 4 positions and a dense layer, all lively."""
    made = create(
        Dynamics(), [2, 3], [1, 2], [5], np.random.default_rng(0), (1, 8, 8), weight_scale=3.0
    )
    for layer, threshold in zip(made.layers, (0.5, 0.7, 1.0), strict=True):
        layer.threshold = torch.full_like(layer.threshold, threshold)
    return made


def pictures(number=11, fingerprint="abc", task=TASK, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (number, 8, 8)).astype(np.uint8)
    return TaskImages(task, "train", images, np.arange(number) % 2, fingerprint)


def compute(network, images, views=VIEWS, presentation="frame", **options):
    return features.compute(network, images, views, presentation, backend="portable", **options)


def activity(network, images, presentation="frame"):
    steps = schedule(images.task, presentation)
    raster = tuple(network.names)
    return portable.forward(network, torch.from_numpy(images.images), steps, raster=raster)


# views


def test_sizes(network):
    expected = {
        "conv1": 2 * 64, "conv1/2": 2 * 16, "conv1/4": 2 * 4, "conv1/8": 2, "conv2": 3 * 16,
        "conv2/4": 3, "dense1": 5,
    }  # fmt: skip
    assert {view: features.size(network, view) for view in expected} == expected


@pytest.mark.parametrize(("view", "side"), [("conv1/9", 9), ("conv2/8", 8), ("dense1/2", 2)])
def test_a_patch_must_lie_in_the_layer(network, view, side):
    with pytest.raises(UserError, match=rf"readout_layers: '{view}' .* {side} x {side}; the side"):
        features.size(network, view)


@pytest.mark.parametrize("side", [1, 2, 3, 4])  # with 3, patches at the edges are smaller
def test_pooling_equals_the_loops(side):
    counts = np.random.default_rng(0).integers(0, 99, (3, 2, 8, 4))
    view = f"conv1/{side}" if side > 1 else "conv1"
    found = features.view_counts(torch.from_numpy(counts), view)
    for image in range(3):
        expected = [
            counts[image, channel, row : row + side, column : column + side].sum()
            for channel in range(2)
            for row in range(0, 8, side)
            for column in range(0, 4, side)
        ]
        assert found[image].tolist() == expected
    assert np.prod(features.patched((2, 8, 4), side)) == len(expected)


# values


def test_counts_spikes_and_rates_equal_explicit_sums(network):
    images = pictures()
    found = compute(network, images, chunk=4)  # three batches, the last one smaller
    shown = activity(network, images)
    for view in VIEWS:
        name, _ = features.split(view)
        spikes = shown.rasters[name].numpy().sum(0)
        expected = features.view_counts(torch.from_numpy(spikes.astype(np.int64)), view)
        assert np.array_equal(found.counts[view], expected)
        assert found.counts[view].dtype.kind == "u"
        assert found.counts[view].max() > 0
    for layer in network.layers:
        raster = shown.rasters[layer.name].numpy()
        assert found.spikes[layer.name] == pytest.approx(raster.sum() / 11)
        crossings = shown.crossings[layer.name].numpy()
        for compartment in range(2):
            rate = crossings[:, compartment].sum() / (11 * layer.neurons * 6)
            assert found.rates[layer.name][compartment] == pytest.approx(rate)


def test_large_counts_do_not_overflow(network):
    # Every neuron fires in each of 300 steps: 300 needs 16 bits, 16 x 300 too, 64 x 2000 needs 32.
    for layer in network.layers:
        layer.weight = torch.full_like(layer.weight, 1.9)
        layer.threshold = torch.full_like(layer.threshold, 1e-3)
    bright = np.full((1, 8, 8), 255, np.uint8)
    for duration in (255.0, 300.0, 2000.0):
        task = TASK.model_copy(update={"duration_ms": duration})
        images = TaskImages(task, "train", bright, np.zeros(1, int), f"bright{duration}")
        found = compute(network, images, ["conv1", "conv1/8"])
        assert (found.counts["conv1"] == duration).all()
        assert (found.counts["conv1/8"] == 64 * duration).all()


def test_the_first_images_and_the_layers_up_to_the_deepest_view_only(network):
    views, images = ["conv2", "conv1/4"], pictures()
    everything = compute(network, images, views)
    some = compute(network, images, views, limit=4)
    assert np.array_equal(some.counts["conv2"], everything.counts["conv2"][:4])
    assert len(compute(network, images, views, limit=99).counts["conv2"]) == 11
    assert set(some.spikes) == set(some.rates) == {"conv1", "conv2"}


# cache


@pytest.fixture
def forwards(monkeypatch):
    """Names of the layers of every forward pass."""
    calls = []
    plain = backends.forward

    def counted(network, *arguments, **options):
        calls.append(network.names)
        return plain(network, *arguments, **options)

    monkeypatch.setattr(backends, "forward", counted)
    return calls


def same(one, other):
    assert one.counts.keys() == other.counts.keys() and one.spikes == other.spikes
    for name in one.counts:
        assert np.array_equal(one.counts[name], other.counts[name])
        assert one.counts[name].dtype == other.counts[name].dtype
    for name in one.rates:
        assert np.array_equal(one.rates[name], other.rates[name])


def test_a_second_call_runs_nothing(network, forwards):
    first = compute(network, pictures())
    assert len(forwards) == 1
    same(compute(network, pictures()), first)
    same(compute(network.clone(), pictures()), first)
    assert len(forwards) == 1
    compute(network, pictures(), ["conv1"])
    network.layers[-1].threshold *= 2  # after the deepest view: it does not matter
    compute(network, pictures(), ["conv1"])
    assert len(forwards) == 2


def test_anything_else_is_another_file(network, forwards, home):
    plain = pictures()
    compute(network, plain)
    changed = network.clone()
    changed.layers[0].threshold += 0.1
    compute(changed, plain)
    reset = network.clone()
    reset.dynamics = Dynamics(reset="zero")
    compute(reset, plain)
    compute(network, plain, presentation="as_coded")
    compute(network, plain, limit=4)
    compute(network, plain, ["conv1"])
    compute(network, plain, ["conv1/4"])
    compute(network, pictures(fingerprint="other"))
    for rate in (333.3333333, 333.3334444):  # dt differs, and so may spikes
        compute(network, pictures(task=TASK.model_copy(update={"frame_rate_hz": rate})))
    compute(network, pictures(task=TASK.model_copy(update={"duration_ms": 7.0})))
    made = list((home / "features").glob("*.safetensors"))
    assert len(forwards) == len(made) == 11


def test_the_number_simulated_at_once_changes_no_bit(network):
    whole = compute(network, pictures(), keep=False)
    for chunk in (1, 3, 11):
        same(compute(network, pictures(), keep=False, chunk=chunk), whole)


@pytest.mark.parametrize(
    ("threshold", "told"),
    [
        (1e6, r"^conv1: on task .* no neuron spikes; lower threshold_lowest"),
        (1e-6, r"^conv1: on task .* spike in 100% of the steps; raise threshold_highest"),
    ],
)
def test_silent_and_saturated_layers_are_told_with_what_to_change(
    network, threshold, told, monkeypatch
):
    monkeypatch.delenv("LTGATE_PROGRESS", raising=False)
    layer = network.layers[0]
    layer.weight = torch.full_like(layer.weight, 1.9)
    layer.threshold = torch.full_like(layer.threshold, threshold)
    bright = np.full((2, 8, 8), 255, np.uint8)
    images = TaskImages(TASK, "train", bright, np.zeros(2, int), "bright")
    with pytest.warns(UserWarning, match=told):
        compute(network, images, ["conv1"], keep=False)
