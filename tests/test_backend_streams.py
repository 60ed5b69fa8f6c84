"""Streams of events on every backend: the same spikes, those of the reference in plain NumPy."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate import backends
from ltgate.backends import event, portable
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.errors import UserError
from ltgate.network import create
from ltgate.neurons import Dynamics

SHAPES = [(40, 1, 1), (2, 9, 7), (1, 5, 5), (17, 3, 3), (100, 1, 1)]


def clock(frames, rate, presentation):
    return schedule(
        TaskSpec(name="t", classes=[0], frame_rate_hz=rate, duration_ms=frames * 1000 / rate),
        presentation,
    )


def stream(random, count, frames, shape, rate=0.05):
    return torch.from_numpy((random.random((count, frames, *shape)) < rate).astype(np.uint8))


def network(random, dynamics, shape, hidden=(33, 5)):
    channels, strides = ([5, 20], [1, 2]) if shape[1] > 1 else ([], [])
    made = create(
        dynamics, channels, strides, list(hidden), random, shape, threshold=0.3, weight_scale=3.0
    )
    for layer in made.layers:
        layer.gate = torch.from_numpy(random.uniform(0.01, 1, layer.out_shape[0])).float()
    return made


DYNAMICS = [
    Dynamics(tau, output, current, reset, follows)
    for tau, output, follows in [
        ((5.0, 100.0), "or", "nothing"),
        ((5.0, 100.0), "blend", "nothing"),
        ((100.0,), "or", "nothing"),
        ((5.0, 100.0), "blend", "neuron"),
        ((5.0, 100.0), "blend", "layer"),
    ]
    for current, reset in [("raw", "subtract"), ("normalised", "zero")]
]


@pytest.mark.parametrize("backend", [event, portable], ids=["event", "portable"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_streams_give_the_reference(backend, data):
    """Any dynamics, shape, rate, presentation, learning; also a gate that follows the sample."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = data.draw(st.sampled_from(SHAPES))
    made = network(random, data.draw(st.sampled_from(DYNAMICS)), shape)
    frames = data.draw(st.integers(1, 60))
    steps = clock(
        frames,
        data.draw(st.sampled_from([50.0, 333.0, 1000.0])),
        data.draw(st.sampled_from(["frame", "pulse"])),
    )
    decays = np.array([0.9, 0.8], np.float32)[: made.compartments]
    decays = decays if data.draw(st.booleans()) else None
    shown = stream(random, 3, frames, shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event, "BLOCK_STEPS", data.draw(st.sampled_from([1, 7, 256])))
        patch.setattr(portable, "CHUNK_STEPS", data.draw(st.sampled_from([1, 8])))
        activity = backend.forward(made, shown, steps, decays, tuple(made.names))
    reference.check(activity, made, shown, steps, decays)


@pytest.mark.parametrize("follows", ["neuron", "layer"])
def test_a_gate_that_follows_decides_spikes(follows):
    """Flipping the set points by a thousand changes spikes: the gate is not inert."""
    random = np.random.default_rng(1)
    made = network(random, Dynamics(output="blend", follows=follows), SHAPES[0])
    shown, steps = stream(random, 4, 100, SHAPES[0]), clock(100, 1000.0, "frame")
    before = backends.forward(made, shown, steps).counts["dense1"]
    made.layers[0].gate = made.layers[0].gate * 1000
    assert not torch.equal(before, backends.forward(made, shown, steps).counts["dense1"])


@pytest.mark.parametrize("follows", ["neuron", "layer"])
@pytest.mark.parametrize("silent", [1, 33], ids=["one", "all"])
def test_a_set_point_of_a_silent_neuron_is_no_division_by_zero(follows, silent):
    random = np.random.default_rng(4)
    made = network(random, Dynamics(output="blend", follows=follows), SHAPES[0])
    made.layers[0].gate[:silent] = 0
    shown, steps = stream(random, 3, 50, SHAPES[0]), clock(50, 1000.0, "frame")
    for backend in (event, portable):
        activity = backend.forward(made, shown, steps, None, tuple(made.names))
        reference.check(activity, made, shown, steps)
        assert activity.counts["dense1"].any()


def test_the_same_frames_at_the_same_ratio_to_a_time_constant_give_the_same_spikes():
    """exp(-1/5) = exp(-20/100): the fast membrane at 1000 Hz is the slow one at 50 Hz."""
    random = np.random.default_rng(2)
    shown = stream(random, 4, 80, SHAPES[0])
    fast = network(np.random.default_rng(3), Dynamics((5.0,)), SHAPES[0])
    slow = network(np.random.default_rng(3), Dynamics((100.0,)), SHAPES[0])
    one = backends.forward(fast, shown, clock(80, 1000.0, "frame"))
    other = backends.forward(slow, shown, clock(80, 50.0, "frame"))
    assert torch.equal(one.counts["dense1"], other.counts["dense1"]) and one.counts["dense1"].any()


@pytest.mark.parametrize(
    ("shape", "value", "drive", "told"),
    [
        ((2, 9, 40, 1, 1), 1, 10, "a stream of 9 frames; the schedule shows 10"),
        ((2, 10, 40, 1, 1), 2, 10, "a stream with 2; an event is 1"),
        ((2, 10, 39, 1, 1), 1, 10, r"takes uint8 \[B, frames, 40, 1, 1\]$"),
    ],
)
def test_streams_that_do_not_fit_are_refused_in_one_line(shape, value, drive, told):
    made = network(np.random.default_rng(0), Dynamics(), SHAPES[0])
    shown = torch.full(shape, value, dtype=torch.uint8)
    for backend in ("event", "portable"):
        with pytest.raises(UserError, match=told):
            backends.forward(made, shown, clock(drive, 1000.0, "frame"), backend=backend)


def test_several_frames_in_one_step_are_refused():
    made = network(np.random.default_rng(0), Dynamics(), SHAPES[0])
    shown = torch.zeros((1, 8, *SHAPES[0]), dtype=torch.uint8)
    with pytest.raises(UserError, match="up to 4 in a step"):
        backends.forward(made, shown, clock(8, 4000.0, "pulse"))
