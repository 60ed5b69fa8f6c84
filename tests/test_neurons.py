"""Neurons against traces worked out by hand.

The decays in the hand-made traces are powers of one half and three quarters, and all currents are
dyadic, so every number in them is exact in float32 and compared for equality.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate.neurons import Dynamics, Step, heaviside, scan, step, surrogate

ONE_HALF_PER_MS = 1 / np.log(2)  # the time constant whose decay over 1 ms is 1/2


def trace(currents, decay, threshold, gain=None, start=None, **options):
    """Scan one neuron: ``currents`` [T][C]; membranes and crossings as [T][C], spikes as [T]."""
    currents = torch.tensor(currents)
    count = currents.shape[1]
    record = scan(
        currents,
        torch.zeros(count) if start is None else torch.tensor(start),
        decay=torch.tensor(decay),
        gain=torch.tensor([1.0] * count if gain is None else gain),
        threshold=torch.tensor(threshold),
        **options,
    )
    assert torch.equal(record.end, record.membrane[-1])
    return record.membrane.tolist(), record.crossed.tolist(), record.spikes.tolist()


# one compartment


def test_single_reset_by_subtraction():
    # v: .75 | .375 + .75 = 1.125, spike, .125 | .0625 + .75 = .8125 | .40625 + .75 = 1.15625, spike
    membranes, crossed, spikes = trace([[0.75]] * 4, [0.5], [1.0])
    assert membranes == [[0.75], [0.125], [0.8125], [0.15625]]
    assert spikes == [0, 1, 0, 1]
    assert crossed == [[0], [1], [0], [1]]


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_exactly_at_the_threshold_is_a_spike(reset):
    # v: .5 | .25 + .75 = 1 = theta, spike, 0 | .25
    membranes, _, spikes = trace([[0.5], [0.75], [0.25]], [0.5], [1.0], reset=reset)
    assert membranes == [[0.5], [0.0], [0.25]]
    assert spikes == [0, 1, 0]
    below = float(np.nextafter(np.float32(1), np.float32(0)))
    assert trace([[below]], [0.5], [1.0], reset=reset)[2] == [0]


# two compartments, either one spikes


def test_dual_or_each_compartment_resets_by_its_own_crossing():
    # decay .5: .5 | .75 = theta, 0 | .5 | .75, 0 | .5
    # decay .75: .25 | .4375 | .578125 >= .5, .078125 | .05859375 + .25 | .2314453125 + .25
    membranes, crossed, spikes = trace([[0.5, 0.25]] * 5, [0.5, 0.75], [0.75, 0.5])
    fast, slow = zip(*membranes, strict=True)
    assert list(fast) == [0.5, 0.0, 0.5, 0.0, 0.5]
    assert list(slow) == [0.25, 0.4375, 0.078125, 0.30859375, 0.4814453125]
    assert crossed == [[0, 0], [1, 0], [0, 1], [1, 0], [0, 0]]
    assert spikes == [0, 1, 1, 1, 0]


# two compartments, one blended spike


def test_dual_blend_one_spike_resets_both():
    # gamma = theta = 1/2, b = (fast + slow) / 2
    # fast .5, slow .25, b .375 | .75, .4375, b .59375: spike, .25, -.0625
    # .125 + .5, -.046875 + .25, b .4140625: none although fast alone is above theta
    # .3125 + .5, .15234375 + .25, b .607421875: spike, .3125, -.09765625
    membranes, crossed, spikes = trace(
        [[0.5, 0.25]] * 4, [0.5, 0.75], [0.5], gate=torch.tensor(0.5), output="blend"
    )
    assert membranes == [[0.5, 0.25], [0.25, -0.0625], [0.625, 0.203125], [0.3125, -0.09765625]]
    assert spikes == [0, 1, 0, 1]
    assert crossed == [[1, 0], [1, 0], [1, 0], [1, 0]]  # each compartment against theta = 1/2


@pytest.mark.parametrize(
    ("gate", "fast", "slow", "spikes"),
    [
        (0.25, 0.5, 0.5, 1),  # exactly at theta = .5
        (0.25, 0.5, 0.46875, 0),
        (1.0, 0.5, -9.0, 1),  # the fast compartment alone
        (1.0, 0.46875, 9.0, 0),
        (0.0, -9.0, 0.5, 1),  # the slow compartment alone
        (0.0, 9.0, 0.46875, 0),
    ],
)
def test_gate_weighs_the_compartments(gate, fast, slow, spikes):
    blended = {"gate": torch.tensor(gate), "output": "blend"}
    assert trace([[fast, slow]], [0.5, 0.75], [0.5], **blended)[2] == [spikes]


# decays and gains


def test_decays_of_the_published_time_constants():
    # exp(-1/5), exp(-1/100); at 50 Hz exp(-20/5), exp(-20/100)
    dynamics = Dynamics()
    np.testing.assert_allclose(dynamics.decay(1.0), [0.81873075, 0.99004983], rtol=1e-7)
    np.testing.assert_allclose(dynamics.decay(20.0), [0.01831564, 0.81873075], rtol=1e-6)
    assert dynamics.decay(1.0).dtype == dynamics.gain(1.0).dtype == np.float32


def test_raw_and_normalised_gain():
    assert Dynamics(current="raw").gain(20.0).tolist() == [1, 1]
    gain = Dynamics(current="normalised").gain(20.0)
    np.testing.assert_allclose(gain, [0.98168436, 0.18126925], rtol=1e-6)
    assert Dynamics((ONE_HALF_PER_MS,), current="normalised").gain(1.0) == [0.5]
    assert Dynamics((ONE_HALF_PER_MS,)).decay(2.0) == [0.25]


def test_published_neuron_at_50_hz_by_hand():
    # raw current .6, theta 1, frames of 20 ms, decays e^-4 and e^-0.2
    # fast: .6 | .6 x .01831564 + .6 = .6109894 | .6111907
    # slow: .6 | .6 x .81873075 + .6 = 1.0912385, spike, .0912385 | .0746997 + .6 | 1.1523969, spike
    membranes, _, spikes = trace([[0.6, 0.6]] * 4, Dynamics().decay(20.0), [1.0, 1.0])
    fast, slow = zip(*membranes, strict=True)
    assert fast == pytest.approx([0.6, 0.6109894, 0.6111907, 0.6111944], abs=1e-6)
    assert slow == pytest.approx([0.6, 0.0912385, 0.6746997, 0.1523974], abs=1e-5)
    assert spikes == [0, 1, 0, 1]


@pytest.mark.parametrize("tau", [5.0, 100.0])
def test_normalised_current_charges_alike_at_every_frame_rate(tau):
    # v(T) = I (1 - exp(-T / tau)), whatever the step
    reached = []
    for steps, dt in ((200, 1.0), (10, 20.0)):
        dynamics = Dynamics((tau,), current="normalised")
        membranes = trace([[0.7]] * steps, dynamics.decay(dt), [9.0], gain=dynamics.gain(dt))[0]
        reached.append(membranes[-1][0])
    assert reached == pytest.approx([0.7 * (1 - np.exp(-200 / tau))] * 2, rel=1e-5)


# scan and shapes


@st.composite
def cases(draw):
    """Random currents [T, C, B, channels, h, w] and the options of a layer."""
    output = draw(st.sampled_from(["or", "blend"]))
    compartments = draw(st.sampled_from([1, 2]))
    steps, batch, channels, height, width = (draw(st.integers(1, 4)) for _ in range(5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (steps, compartments, batch, channels, height, width)
    column = (-1, 1, 1, 1, 1)
    thresholds = 1 if output == "blend" else compartments
    options = {
        "decay": torch.from_numpy(random.uniform(0, 1, compartments)).float().view(column),
        "gain": torch.from_numpy(random.uniform(0.1, 1, compartments)).float().view(column),
        "threshold": torch.from_numpy(
            random.uniform(0.2, 1, (thresholds, 1, channels, 1, 1))
        ).float(),
        "gate": torch.from_numpy(random.uniform(0, 1, (channels, 1, 1))).float(),
        "output": output,
        "reset": draw(st.sampled_from(["subtract", "zero"])),
    }
    return torch.from_numpy(random.normal(0.5, 1, shape)).float(), options


@settings(max_examples=40, deadline=None)
@given(cases())
def test_scan_is_repeated_steps(case):
    currents, options = case
    steps, *rest = currents.shape
    membrane = torch.zeros(rest)
    record = scan(currents, membrane, **options)
    assert record.membrane.shape == record.crossed.shape == currents.shape
    assert record.spikes.shape == (steps, *rest[1:])
    for t in range(steps):
        one = step(membrane, currents[t], **options)
        assert isinstance(one, Step)
        membrane = one.membrane
        assert torch.equal(record.membrane[t], one.membrane)
        assert torch.equal(record.crossed[t], one.crossed)
        assert torch.equal(record.spikes[t], one.spikes)
    assert torch.equal(record.end, membrane)
    assert set(record.spikes.unique().tolist()) <= {0.0, 1.0}


# surrogate gradient

values = st.floats(-3, 3, width=32)


@settings(max_examples=100, deadline=None)
@given(values, values, st.sampled_from([1.0, 10.0, 25.0]))
def test_surrogate_gradient_is_its_formula(membrane, threshold, slope):
    v = torch.tensor(membrane, requires_grad=True)
    theta = torch.tensor(threshold, requires_grad=True)
    spike = surrogate(v, theta, slope)
    assert spike.item() == heaviside(v, theta).item() == float(membrane >= threshold)
    spike.backward()
    expected = 1 / (1 + slope * abs(membrane - threshold)) ** 2
    assert v.grad.item() == pytest.approx(expected, rel=1e-5)
    assert theta.grad.item() == pytest.approx(-expected, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(cases())
def test_training_with_the_surrogate_leaves_spikes_as_they_are(case):
    currents, options = case
    plain = scan(currents, torch.zeros(currents.shape[1:]), **options)
    needing = currents.clone().requires_grad_()
    trained = scan(needing, torch.zeros(currents.shape[1:]), spike=surrogate, **options)
    assert torch.equal(trained.spikes, plain.spikes)
    assert torch.equal(trained.membrane, plain.membrane)
    trained.spikes.sum().backward()
    assert needing.grad.isfinite().all()


def test_no_gradient_flows_through_the_reset():
    # v0 = 1.2 spikes; its rest .2 decays to .1, v1 = .7: ds1/dI0 = .5 g(-.3), as without a spike
    currents = torch.tensor([[1.2], [0.6]], requires_grad=True)
    one = torch.ones(1)
    record = scan(
        currents, torch.zeros(1), decay=0.5 * one, gain=one, threshold=one, spike=surrogate
    )
    assert record.spikes.flatten().tolist() == [1, 0]
    record.spikes[1].backward()
    assert currents.grad.flatten().tolist() == pytest.approx([0.5 / 16, 1 / 16], rel=1e-4)
