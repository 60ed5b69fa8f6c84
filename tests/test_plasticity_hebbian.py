"""The bounded Hebbian update against the rule written with loops."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate.network import LARGEST
from ltgate.plasticity.hebbian import update


def by_loops(weight, correlation, rate, mask):
    """w <- |w| (w + rate |w| m c / |c|) / |...|, one weight vector at a time, in float64."""
    result = np.array(weight, np.float64)
    for compartment, neuron in np.ndindex(*weight.shape[:2]):
        w = weight[compartment, neuron].astype(np.float64).ravel()
        c = correlation[compartment, neuron].astype(np.float64).ravel()
        norm, length = math.sqrt(sum(w * w)), math.sqrt(sum(c * c))
        if norm == 0:
            continue
        moved = w + rate * norm * mask[compartment, neuron] * (c / length if length else 0 * c)
        moved *= norm / math.sqrt(sum(moved * moved))
        result[compartment, neuron] = moved.clip(-LARGEST, LARGEST).reshape(weight.shape[2:])
    return result


@st.composite
def cases(draw):
    """Weights [C, out, ...] within |w| < 2, correlations that may be zero, a rate and a mask."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.sampled_from([1, 2])), draw(st.integers(1, 4)))
    shape += draw(st.sampled_from([(2, 3, 3), (1, 3, 3), (5,)]))
    weight = random.uniform(-1, 1, shape) * draw(st.sampled_from([0.01, 0.5, 1.9]))
    correlation = random.uniform(0, draw(st.sampled_from([1e-3, 1.0, 1e5])), shape)
    correlation[random.random(shape[:2]) < 0.2] = 0
    weight[random.random(shape[:2]) < 0.1] = 0
    mask = random.choice([0.0, 0.3, 1.0], shape[:2])
    rate = draw(st.sampled_from([0.0, 0.002, 0.01, 0.5, 10.0]))
    return weight.astype(np.float32), correlation.astype(np.float32), rate, mask.astype(np.float32)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_equals_the_loops(case):
    weight, correlation, rate, mask = case
    found = update(*(torch.from_numpy(x) for x in (weight, correlation)), rate, torch.tensor(mask))
    assert found.shape == weight.shape and found.dtype == torch.float32
    np.testing.assert_allclose(
        found, by_loops(weight, correlation, rate, mask), rtol=1e-4, atol=2e-6
    )


@settings(max_examples=50, deadline=None)
@given(cases())
def test_norms_are_bounded(case):
    weight, correlation, rate, mask = case
    weight, correlation, mask = (torch.from_numpy(x) for x in (weight, correlation, mask))
    for _ in range(10):
        before = weight.flatten(2).norm(dim=2)
        weight = update(weight, correlation, rate, mask)
        after = weight.flatten(2).norm(dim=2)
        assert (after <= before * (1 + 1e-5)).all()
        assert weight.abs().max() < 2
        if weight.abs().max() < LARGEST:  # nothing was clipped
            torch.testing.assert_close(after, before, rtol=1e-5, atol=0)


def test_converges_to_the_direction_of_a_steady_correlation():
    weight = torch.tensor([[[1.0, -0.5, 0.25]]])
    target = torch.tensor([[[0.0, 3.0, 4.0]]])
    moved = weight
    for _ in range(300):
        moved = update(moved, target, 0.05)
    expected = target / target.norm() * weight.norm()
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-3)
