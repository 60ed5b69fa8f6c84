"""Hebbian subspace neurons: they find principal directions, and projections leave them alone."""

import numpy as np
import pytest
import torch

from ltgate.methods.hlop import ITERATIONS, MOMENTUM, SubspaceNeurons

INPUTS = 12
pytestmark = pytest.mark.usefixtures("one_thread")


def activity(random, directions, strengths, count=64):
    """Samples that vary along some of the unit vectors ``directions``."""
    values = random.standard_normal((count, len(directions))) * strengths
    return torch.from_numpy(values.astype(np.float32)) @ directions


def directions(random, number):
    q, _ = np.linalg.qr(random.standard_normal((INPUTS, number)))
    return torch.from_numpy(q.T.astype(np.float32))


def orthonormal(rows, atol):
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=atol)


def learned(random, rows, subspace=None, along=None, strengths=1.0):
    subspace = subspace or SubspaceNeurons(INPUTS)
    subspace.extend(rows, random)
    for _ in range(150):
        subspace.learn(activity(random, along, strengths), rate=0.2)
    return subspace


def test_one_iteration_is_the_published_rule(monkeypatch):
    """Written out sample by sample, for the second update, which has momentum."""
    monkeypatch.setattr("ltgate.methods.hlop.ITERATIONS", 1)
    random = np.random.default_rng(0)
    subspace = SubspaceNeurons(INPUTS)
    subspace.extend(3, random)
    subspace.freeze()
    subspace.extend(2, random)
    x = activity(random, directions(random, 4), 1.0, count=5)
    new = x - x @ subspace.rows[:3].T @ subspace.rows[:3]
    x = x / np.sqrt(float((new**2).sum(1).mean()))  # mean square length 1: taken as it is
    rows, momentum = subspace.rows.double().numpy(), np.zeros((2, INPUTS))
    for _ in range(2):
        step = np.zeros((2, INPUTS))
        for sample in x.double().numpy():
            y = rows @ sample
            left = sample - sum(response * row for response, row in zip(y, rows, strict=True))
            step += np.outer(y[3:], left) / len(x)
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * step
        rows = np.concatenate([rows[:3], rows[3:] + 0.3 * momentum])
        subspace.learn(x, rate=0.3)
    np.testing.assert_allclose(subspace.rows.numpy(), rows, atol=1e-6)
    assert np.abs(momentum).max() > 1e-3
    assert ITERATIONS == 5


def test_rows_find_the_leading_directions_and_stay_orthonormal():
    random = np.random.default_rng(1)
    along = directions(random, INPUTS)
    strengths = np.array([3, 2.5, 2, *[0.1] * (INPUTS - 3)])
    subspace = learned(random, 3, along=along, strengths=strengths)
    kept = (along[:3] @ subspace.rows.T).square().sum(1)
    assert (kept > 0.99).all()
    orthonormal(subspace.rows, atol=0.02)


def test_new_rows_learn_what_the_old_leave_over():
    random = np.random.default_rng(3)
    along = directions(random, 4)
    subspace = learned(random, 2, along=along[:2])
    subspace.freeze()
    old = subspace.rows.clone()
    learned(random, 2, subspace, along, strengths=np.array([5, 5, 1, 1]))
    assert torch.equal(subspace.rows[:2], old)
    kept = (along @ subspace.rows.T).square().sum(1)
    assert (kept > 0.98).all()
    orthonormal(subspace.rows, atol=0.05)


def test_begins_and_freezes_exactly_orthonormal_with_the_same_span():
    random = np.random.default_rng(4)
    subspace = learned(random, 2, along=directions(random, 5))
    before = subspace.rows.clone()
    subspace.freeze()
    orthonormal(subspace.rows, atol=1e-6)
    projector = subspace.rows.T @ subspace.rows
    torch.testing.assert_close(before @ projector, before, rtol=0, atol=1e-5)
    frozen = subspace.rows.clone()
    subspace.extend(3, random)
    assert torch.equal(subspace.rows[:2], frozen)
    orthonormal(subspace.rows, atol=1e-6)


def test_there_is_room_for_no_more_rows_than_inputs():
    random = np.random.default_rng(6)
    subspace = SubspaceNeurons(INPUTS)
    for wanted, have in ((5, 5), (5, 10), (5, 12), (5, 12)):
        subspace.extend(wanted, random)
        assert len(subspace.rows) == have
        subspace.learn(activity(random, directions(random, 5), 1.0), rate=0.1)
        subspace.freeze()
    assert subspace.project(torch.ones(1, INPUTS)).abs().max() < 1e-5


def test_silence_teaches_nothing():
    subspace = SubspaceNeurons(INPUTS)
    subspace.extend(2, np.random.default_rng(7))
    before = subspace.rows.clone()
    subspace.learn(torch.zeros(4, INPUTS), rate=0.1)
    assert torch.equal(subspace.rows, before)
