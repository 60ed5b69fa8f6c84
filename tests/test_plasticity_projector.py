"""The projectors against explicit formulas, and the property that defines each."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate.network import create
from ltgate.neurons import Dynamics
from ltgate.params import Params
from ltgate.plasticity.projector import RankOne, Subspace, patches

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(1, 1, 4), (2, 3, 5), (2, 4, 2, 3, 3), (1, 5, 1, 3, 3)])

# rank one


def rank_one(vector):
    """A projector whose vector is given, [C, out]."""
    vector = torch.as_tensor(vector)
    dynamics = Dynamics((5.0, 100.0)[: len(vector)])
    layer = create(dynamics, [], [], [vector.shape[1]], np.random.default_rng(0), (1, 1, 1)).layers[
        0
    ]
    made = RankOne(layer, Params(), np.random.default_rng(0))
    made.vector = vector
    return made


@settings(max_examples=60, deadline=None)
@given(seeds, shapes, st.sampled_from([1e-6, 1e-3, 1.0]))
def test_rank_one_projection_equals_the_matrix(seed, shape, scale):
    random = np.random.default_rng(seed)
    v = (scale * random.standard_normal(shape[:2])).astype(np.float32)
    update = random.standard_normal(shape).astype(np.float32)
    found = rank_one(v).across(torch.from_numpy(update))
    assert found.shape == shape
    for c in range(shape[0]):
        one = v[c].astype(np.float64)
        matrix = np.eye(shape[1]) - np.outer(one, one) / (one @ one + 1e-8)
        expected = matrix @ update[c].reshape(shape[1], -1)
        np.testing.assert_allclose(found[c].flatten(1), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(seeds, shapes, st.sampled_from([0.001, 0.5]))
def test_rank_one_learning_equals_the_loops(seed, shape, rate):
    random = np.random.default_rng(seed)
    v = random.standard_normal(shape[:2]).astype(np.float32)
    correlation = random.standard_normal(shape).astype(np.float32)
    projector = rank_one(v.copy())
    projector.observe(torch.from_numpy(correlation), rate)
    for c in range(shape[0]):
        h = [float(correlation[c, o].mean(dtype=np.float64)) for o in range(shape[1])]
        along = sum(h[o] * float(v[c, o]) for o in range(shape[1]))
        expected = [
            float(v[c, o]) + rate * (h[o] - along * float(v[c, o])) for o in range(shape[1])
        ]
        np.testing.assert_allclose(projector.vector[c], expected, rtol=1e-4, atol=1e-5)


def test_rank_one_starts_small_and_seeded():
    layer = create(Dynamics(), [], [], [5000], np.random.default_rng(0), (1, 1, 1)).layers[0]
    one, other = (RankOne(layer, Params(), np.random.default_rng(1)).vector for _ in range(2))
    assert one.shape == (2, 5000) and one.dtype == torch.float32
    assert float(one.std()) == pytest.approx(1e-3, rel=0.05)
    assert torch.equal(one, other)


# a subspace of inputs


def drawn(random, count, rank, size):
    """``count`` inputs of ``size`` values in a random subspace of dimension ``rank``."""
    return torch.from_numpy(
        random.standard_normal((count, rank)) @ random.standard_normal((rank, size))
    ).float()


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(5, 12), st.integers(1, 6))
def test_responses_inside_the_subspace_do_not_change(seed, rank, size, more):
    random = np.random.default_rng(seed)
    inputs = drawn(random, 40, rank, size)
    space = Subspace(size)
    for part in inputs.split(7):
        space.observe(part)
    space.extend(rank + more)  # asking for more directions than there are
    assert space.basis.shape == (rank, size)
    torch.testing.assert_close(space.basis @ space.basis.T, torch.eye(rank), rtol=0, atol=1e-5)
    weight = torch.from_numpy(random.standard_normal((2, 3, size))).float()
    update = torch.from_numpy(random.standard_normal((2, 3, size))).float()
    moved = weight + space.project(update)
    scale = float((inputs @ weight.mT).abs().max())
    torch.testing.assert_close(inputs @ moved.mT, inputs @ weight.mT, rtol=0, atol=1e-3 * scale)
    assert (space.project(update) - update).abs().max() > 1e-3
    other = torch.from_numpy(random.standard_normal((5, size))).float()
    assert (other @ space.project(update).mT).abs().max() > 1e-3  # elsewhere it may


def test_keeps_the_directions_of_largest_second_moment():
    # axis 2 carries 100, axis 0 carries 25, axis 1 carries 1
    space = Subspace(4)
    space.observe(torch.tensor([[0.0, 0, 10, 0], [5.0, 0, 0, 0], [0.0, 1, 0, 0]]))
    space.extend(2)
    update = torch.ones(1, 4)
    torch.testing.assert_close(space.project(update), torch.tensor([[0.0, 1, 0, 1]]))
    assert space.moment.abs().max() == 0  # the next task starts anew


def test_a_second_task_adds_only_what_is_new():
    random = np.random.default_rng(0)
    first, second = drawn(random, 50, 2, 10), drawn(random, 50, 3, 10)
    space = Subspace(10)
    for inputs, directions in (
        (first, 2),
        (first, 2),
        (torch.cat([first, second]), 5),
        (second, 5),
    ):
        space.observe(inputs)
        space.extend(5)
        assert space.basis.shape == (directions, 10)
        eye = torch.eye(directions)
        torch.testing.assert_close(space.basis @ space.basis.T, eye, rtol=0, atol=1e-5)
    update = torch.from_numpy(random.standard_normal((4, 10))).float()
    for inputs in (first, second):
        assert (inputs @ space.project(update).T).abs().max() < 1e-3
    assert space.project(update).abs().max() > 0.1


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_are_what_a_convolution_sees(stride):
    random = np.random.default_rng(0)
    inputs = torch.from_numpy(random.standard_normal((2, 3, 8, 8)))
    kernels = torch.from_numpy(random.standard_normal((5, 3, 3, 3)))
    expected = torch.nn.functional.conv2d(inputs, kernels, stride=stride, padding=1)
    rows = patches(inputs, 3, stride)
    found = rows @ kernels.flatten(1).T
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1).reshape(-1, 5))
    assert torch.equal(patches(inputs, 3, 0), inputs.flatten(1))  # a dense layer
