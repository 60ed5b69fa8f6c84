"""What a timescale follows, against the equations in NumPy float64."""

import numpy as np
import pytest
import torch

from ltgate import timescale


def closeness(ratio):
    ratio = np.clip(ratio, 1e-6, 1e6)
    near = np.exp(-3 * np.abs(np.log(ratio)))  # the softmax of the docstring
    return near / near.sum(0)


@pytest.mark.parametrize("compartments", [2, 3])
def test_closeness_is_a_softmax_of_distances_in_the_logarithm(compartments):
    ratio = np.exp(np.random.default_rng(0).normal(0, 3, (compartments, 500)))
    ratio[0, :3] = 0, 1e30, 1
    found = timescale.closeness(torch.from_numpy(ratio))
    np.testing.assert_allclose(found, closeness(ratio), rtol=1e-9, atol=1e-30)
    np.testing.assert_allclose(found.sum(0), 1)


def traces(currents, decay, gain):
    """e[n] = a e[n-1] + g I[n], for all n."""
    now, found = 0.0, []
    for current in currents.astype(float):
        now = now * decay + gain * current
        found.append(now)
    return np.stack(found)


@pytest.mark.parametrize("pooled", [False, True], ids=["neuron", "layer"])
@pytest.mark.parametrize("block", [1, 7, 40])
def test_weights_follow_the_power_of_the_traces(pooled, block):
    random = np.random.default_rng(1)
    currents = random.normal(0, 1, (40, 2, 3, 5, 2, 2)).astype(np.float32)
    decay = np.array([0.8, 0.99], np.float32).reshape(2, 1, 1, 1, 1)
    gain = np.array([1.0, 0.5], np.float32).reshape(2, 1, 1, 1, 1)
    q = random.uniform(0.5, 3, (5, 1, 1)).astype(np.float32)
    power = (traces(currents, decay.astype(float), gain.astype(float)) ** 2).cumsum(0)
    steps = np.arange(1, 41).reshape(-1, *[1] * 5)
    if pooled:
        expected = power.sum((3, 4, 5), keepdims=True) / (steps * q.sum() * 4)
    else:
        expected = power / (steps * q)
    expected = np.stack([closeness(ratio) for ratio in expected])
    zeros = torch.zeros(currents.shape[1:])
    total = torch.zeros(2, 3, 1, 1, 1, dtype=torch.float64) if pooled else zeros
    state, found = timescale.Power(zeros, total), []
    for begin in range(0, 40, block):
        some = torch.from_numpy(currents[begin : begin + block])
        values = (torch.from_numpy(x) for x in (decay, gain, q))
        weights, state = timescale.follow(some, state, begin, *values, pooled)
        found.append(weights)
    found = torch.cat(found)
    assert found.shape == expected.shape and found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)
    mean = timescale.power(*(torch.from_numpy(x) for x in (currents, decay, gain)))
    np.testing.assert_allclose(mean, power[-1] / 40, rtol=1e-4)


def test_a_membrane_follows_the_rate_of_what_has_arrived():
    spikes = np.random.default_rng(2).random((20, 3, 4, 1, 1)) < 0.3
    spikes[:, 2] = 0  # a sample without events counts as one: its tau only grows
    so_far = np.maximum(spikes.sum((2, 3, 4)).cumsum(0), 1)
    tau = 5.0 * 0.2 / (so_far / (np.arange(1, 21)[:, None] * 0.5))  # tau_1 q / f
    arrived, found = torch.zeros(3), []
    for part in np.split(spikes.astype(np.float32), [7]):
        done = sum(map(len, found))
        decay, arrived = timescale.rate_decay(torch.from_numpy(part), arrived, done, 0.5, 5.0, 0.2)
        found.append(decay)
    found = torch.cat(found)[:, 0, :, 0, 0, 0]
    np.testing.assert_allclose(found, np.exp(-0.5 / tau), rtol=1e-5)
