"""The event-driven backend against the network written out step by step (``reference.py``)."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate.backends import event
from ltgate.data.tasks import Schedule
from ltgate.network import LARGEST, create
from ltgate.neurons import Dynamics

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = list(
    product([(5.0, 100.0), (20.0,)], ["or", "blend"], ["raw", "normalised"], ["subtract", "zero"])
)
NETWORKS = [
    ([4, 6], [1, 2], [7]),
    ([3], [2], [6, 5]),
    ([5, 4, 2], [2, 1, 2], []),
    ([33, 2], [1, 2], [40]),
    ([], [], [9, 34]),
]


def network(random, dynamics, channels, strides, hidden, shape=(1, 9, 9)):
    made = create(dynamics, channels, strides, hidden, random, shape, weight_scale=3.0)
    for layer in made.layers:
        layer.threshold = torch.from_numpy(random.uniform(0.1, 0.5, layer.threshold.shape)).float()
        layer.threshold *= 1 if dynamics.current == "raw" else 0.3
        layer.gate = torch.from_numpy(random.uniform(0, 1, layer.gate.shape)).float()
    return made


def pictures(random, count, shape=(1, 9, 9)):
    """Images with dark parts, which the kernels skip."""
    images = random.integers(0, 256, (count, *shape)).astype(np.uint8)
    images[:, :, : shape[1] // 2] *= random.integers(0, 2, (count, 1, 1, 1)).astype(np.uint8)
    return torch.from_numpy(images)


def clock(drive, dt=1.0):
    return Schedule("frame", dt, dt, np.asarray(drive, np.float32))


def run(made, images, steps, trace_decay=None):
    return event.forward(made, images, steps, trace_decay, tuple(made.names))


def assert_is_reference(made, images, steps, trace_decay):
    activity = run(made, images, steps, trace_decay)
    reference.check(activity, made, images.numpy(), steps, trace_decay)
    return activity


@pytest.mark.parametrize("shape", NETWORKS, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_gives_the_reference(options, shape):
    random = np.random.default_rng(len(shape[0]) + len(shape[2]))
    made = network(random, Dynamics(*options), *shape)
    drive = random.integers(0, 3, 30)
    decays = np.array([0.8, 0.95], np.float32)[: len(options[0])]
    activity = assert_is_reference(made, pictures(random, 3), clock(drive), decays)
    assert all(0 < raster.float().mean() < 1 for raster in activity.rasters.values())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_networks_give_the_reference(data):
    """Any depth, width, stride, image shape, drive, block length and number of threads."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    depth = data.draw(st.integers(0, 3))
    channels = data.draw(st.lists(st.integers(1, 70), min_size=depth, max_size=depth))
    strides = data.draw(st.lists(st.integers(1, 3), min_size=depth, max_size=depth))
    hidden = data.draw(st.lists(st.integers(1, 70), min_size=not depth, max_size=2))
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(2, 10), st.integers(2, 10)))
    steps = data.draw(st.integers(1, 40))
    drive = random.choice([0, 1, 1, 2.5], steps) if data.draw(st.booleans()) else np.ones(steps)
    equal = data.draw(st.booleans())
    decays = np.array([0.8, 0.8 if equal else 0.5], np.float32)
    made = network(random, Dynamics(*data.draw(st.sampled_from(OPTIONS))), channels, strides,
                   hidden, shape)  # fmt: skip
    decays = decays[: made.dynamics.compartments] if data.draw(st.booleans()) else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event, "BLOCK_STEPS", data.draw(st.sampled_from([1, 7, 256])))
        patch.setattr(event, "SLICE_IMAGES", data.draw(st.sampled_from([2, 32])))
        torch.set_num_threads(data.draw(st.sampled_from([1, 2])))
        images = pictures(random, data.draw(st.integers(1, 4)), shape)
        assert_is_reference(made, images, clock(drive, 1.7), decays)


def test_threads_change_nothing():
    random = np.random.default_rng(4)
    made = network(random, Dynamics(), [20, 40], [1, 2], [50])
    images, steps = pictures(random, 9), clock(np.ones(40))
    decays = np.array([0.8, 0.9], np.float32)
    one = run(made, images, steps, decays)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        more = run(made, images, steps, decays)
        assert torch.get_num_threads() == threads
        for name in made.names:
            assert torch.equal(one.rasters[name], more.rasters[name])
            assert torch.equal(one.crossings[name], more.crossings[name])
            assert torch.equal(one.updates[name], more.updates[name])


def test_weights_and_inputs_too_many_for_sixteen_bits():
    """Sums of 64 x 9 weights near 2 need 21 bits, 96 x 27 x 27 inputs need 17: wider integers."""
    random = np.random.default_rng(6)
    made = network(random, Dynamics(), [64, 96], [1, 1], [5], (1, 27, 27))
    made.layers[1].weight.fill_(LARGEST)
    made.layers[1].threshold.fill_(300.0)
    made.layers[2].threshold.fill_(0.01)
    plan = event._Plan(made, 5, 0)
    model = plan.model(event._values(made, clock(np.ones(5)), streamed=False), made.dynamics, map)
    assert model.weights.dtype == np.int32 and plan.scratch(model).rows.dtype == np.uint32
    decays = np.full(2, 0.8, np.float32)
    images = pictures(random, 1, (1, 27, 27))
    activity = assert_is_reference(made, images, clock(np.ones(5)), decays)
    for name in ("conv2", "dense1"):
        assert 0 < activity.rasters[name].float().mean() < 1


@pytest.mark.parametrize("output", ["or", "blend"])
def test_neurons_that_spike_without_input(output):
    """With a threshold of zero or below, silence must not be skipped."""
    random = np.random.default_rng(7)
    made = network(random, Dynamics(output=output), [6, 5], [1, 2], [4])
    made.layers[1].threshold[:] = -0.25
    images = torch.zeros(1, 9, 9, dtype=torch.uint8)
    activity = assert_is_reference(made, images, clock(np.ones(6)), np.full(2, 0.8, np.float32))
    assert activity.counts["conv1"].sum() == 0 < activity.counts["conv2"].sum()


def test_full_precision_weights_are_rounded_as_the_network_rounds_them():
    random = np.random.default_rng(8)
    made = network(random, Dynamics(), [4, 4], [1, 1], [4])
    fine = made.clone()
    for layer, other in zip(made.layers, fine.layers, strict=True):
        ties = torch.where(torch.rand(other.weight.shape) < 0.5, 2.0**-11, 2.0**-13)
        other.weight = layer.forward_weight + ties
        layer.weight = other.forward_weight
    images, steps = pictures(random, 2), clock(np.ones(20))
    one, two = run(made, images, steps), run(fine, images, steps)
    for name in made.names:
        assert torch.equal(one.rasters[name], two.rasters[name])


def test_no_images():
    made = network(np.random.default_rng(9), Dynamics(), [4], [1], [3])
    decays = np.full(2, 0.8, np.float32)
    activity = run(made, torch.zeros(0, 9, 9, dtype=torch.uint8), clock(np.ones(5)), decays)
    assert activity.counts["conv1"].shape == (0, 4, 9, 9)
    assert activity.crossings["dense1"].shape == (0, 2, 3)
    assert activity.updates["dense1"].abs().sum() == 0


def test_memory_is_flat_in_time(monkeypatch):
    """Ten times the steps need hardly more memory: blocks of time, fewer images at once."""
    random = np.random.default_rng(10)
    made = network(random, Dynamics(), [16, 32], [1, 2], [64], (1, 14, 14))
    images, decays = pictures(random, 16, (1, 14, 14)), np.full(2, 0.8, np.float32)
    monkeypatch.setattr(event, "BLOCK_STEPS", 50)
    peaks = []
    for steps in (100, 100, 1000):  # the first one compiles
        tracemalloc.start()
        event.forward(made, images, clock(np.ones(steps)), decays)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.25 * peaks[1]
