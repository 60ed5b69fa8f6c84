"""The variance gate against its formulas written with loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate.params import Params
from ltgate.plasticity.gate import GATES, First


def made(rule, channels):
    return GATES[rule](channels, Params(), np.random.default_rng(0))


def by_loops(batches, steps, positions, rate):
    """var <- (1 - rate) var + rate Var_batch(crossings / (steps positions)), from 1e-4."""
    _, compartments, channels = batches[0].shape
    variance = [[1e-4] * channels for _ in range(compartments)]
    for crossings in batches:
        for c in range(compartments):
            for k in range(channels):
                activity = [image[c, k] / (steps * positions) for image in crossings]
                mean = sum(activity) / len(activity)
                spread = sum((x - mean) ** 2 for x in activity) / len(activity)
                variance[c][k] = (1 - rate) * variance[c][k] + rate * spread
    return variance


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    channels=st.integers(1, 3),
    steps=st.integers(1, 20),
    positions=st.integers(1, 9),
    rate=st.sampled_from([0.001, 0.1, 1.0]),
)
def test_running_variance_equals_the_loops(seed, images, channels, steps, positions, rate):
    random = np.random.default_rng(seed)
    batches = [random.integers(0, steps * positions + 1, (b, 2, channels)) for b in images]
    gate = made("select", channels)
    for crossings in batches:
        gate.observe(torch.from_numpy(crossings), steps, positions, rate)
    np.testing.assert_allclose(
        gate.variance, by_loops(batches, steps, positions, rate), rtol=1e-9, atol=1e-15
    )


READINGS = ("select", "blend")


def gamma(gate, variance=None):
    """What the gate says, of ``variance`` if that is given."""
    gate.variance = gate.variance if variance is None else variance
    return gate.gamma(torch.full((gate.variance.shape[1],), 0.25))


variances = st.floats(1e-12, 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(variances, variances), min_size=1, max_size=5))
def test_readings_equal_their_formulas(pairs):
    variance = torch.tensor(pairs, dtype=torch.float64).T
    hard, soft = (gamma(made(rule, 1), variance) for rule in READINGS)
    assert hard.dtype == soft.dtype == torch.float32
    for (fast, slow), selected, blended in zip(pairs, hard, soft, strict=True):
        assert selected == (1 if fast <= slow else 0)
        assert float(blended) == pytest.approx(slow / (fast + slow), rel=1e-6)
        assert 0 <= blended <= 1
        if fast < 0.999 * slow:
            assert blended > 0.5  # the quieter compartment is favoured, in both readings


def test_silent_compartments_are_a_tie_too():
    for rule, tie in zip(READINGS, (1, 0.5), strict=True):
        gate = made(rule, 2)
        gate.observe(torch.zeros(4, 2, 2, dtype=torch.int64), steps=3, positions=1, rate=1.0)
        assert gate.variance.tolist() == [[0, 0], [0, 0]]
        assert gamma(gate).tolist() == [tie, tie]


def test_a_fixed_gate_stays_whatever_it_sees():
    gate = made("fixed", 2)
    gate.observe(torch.ones(4, 2, 2, dtype=torch.int64), steps=3, positions=1, rate=1.0)
    assert gamma(gate).tolist() == [0.25, 0.25]


# ----------------------------------------------- gates that are set once, on the first task


def start(rule, power, counts=None, seed=0):
    first = First(torch.from_numpy(power), counts, np.random.default_rng(seed))
    return made(rule, power.shape[1]).start(torch.full(power.shape[1:], 0.25), first)


def test_the_set_point_takes_the_compartment_that_is_closer_to_the_median():
    power = np.exp(np.random.default_rng(0).normal(0, 2, (2, 51)))
    power[:, 0] = 0, 1e-9  # silence has a distance too
    middle = np.sort(np.log(np.maximum(power, 1e-30)), axis=None)[50]  # the lower of both middles
    far = np.abs(np.log(np.maximum(power, 1e-30)) - middle)
    found = start("set_point", power)
    assert found.dtype == torch.float32 and 0 < found.sum() < 51
    assert found.tolist() == (far[0] <= far[1]).tolist()


def test_the_teacher_takes_the_compartment_whose_counts_tell_the_classes():
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 90)
    seen = {g: random.poisson(4, (90, 6)) + labels[:, None] * random.integers(0, 3, 6)
            for g in (1.0, 0.0)}  # fmt: skip
    fisher = {}
    for gamma, spikes in seen.items():
        means = np.stack([spikes[labels == label].mean(0) for label in range(3)])
        share = np.bincount(labels)[:, None] / 90
        fisher[gamma] = (share * (means - spikes.mean(0)) ** 2).sum(0) / (spikes.var(0) + 1e-9)
    found = start(
        "teacher", np.ones((2, 6)),
        lambda gamma: (torch.from_numpy(seen[gamma]), torch.from_numpy(labels)),
    )  # fmt: skip
    assert found.tolist() == (fisher[1.0] >= fisher[0.0]).tolist() and 0 < found.sum() < 6


def test_random_and_oracle_make_one_half_fast():
    power = np.ones((2, 40))
    assert start("oracle", power).tolist() == [1] * 20 + [0] * 20
    drawn = [start("random", power, seed=seed).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and [sum(x) for x in drawn] == [20, 20, 20]


def test_published_gates_leave_the_start_to_the_parameter():
    assert {start(rule, np.ones((2, 3))).unique().item() for rule in (*READINGS, "fixed")} == {0.25}
