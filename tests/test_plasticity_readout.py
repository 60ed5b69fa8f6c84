"""The readouts against explicit loops and against the joint ridge solution."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate.plasticity import lda, readout
from ltgate.plasticity.readout import features, of_pairs, root

seeds = st.integers(0, 2**32 - 1)


def Delta(inputs, classes, rate, l2, projected=False, kind=readout.Delta):
    projector = "rankk" if projected else "none"
    params = SimpleNamespace(readout_rate=rate, readout_l2=l2, projector=projector)
    return kind(inputs, classes, params)


def RecursiveLeastSquares(inputs, classes, ridge):
    return readout.RecursiveLeastSquares(inputs, classes, SimpleNamespace(ridge=ridge))


# features


def test_the_root_of_counts_has_a_slope_everywhere():
    counts = torch.tensor([[0.0, 1.0, 4.0, 9.0]], dtype=torch.float64, requires_grad=True)
    rooted = root(counts)
    assert rooted.tolist() == [[0, 1, 2, 3]]
    rooted.sum().backward()
    assert counts.grad.isfinite().all()
    assert (counts.grad > 0).all()
    made = features([counts.detach(), 4 * counts.detach()], rooted=True)
    length = 14**0.5
    expected = [0, 1 / length, 2 / length, 3 / length]
    assert made[0].tolist() == pytest.approx([*expected, *expected, 1])
    plain = features([counts.detach()], normalise=False, rooted=True)
    assert plain[0].tolist() == [0, 1, 2, 3, 1]


@settings(max_examples=40, deadline=None)
@given(seeds, st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(1, 5))
def test_features_equal_the_loops(seed, sizes, number):
    random = np.random.default_rng(seed)
    counts = [random.integers(0, 5, (number, size, 1, 1)) for size in sizes]
    found = features([torch.from_numpy(c) for c in counts])
    assert found.shape == (number, sum(sizes) + 1)
    for image in range(number):
        row = []
        for layer in counts:
            values = layer[image].ravel().tolist()
            norm = math.sqrt(sum(v * v for v in values))
            row += [v / norm if norm else 0.0 for v in values]
        assert found[image].tolist() == pytest.approx([*row, 1.0], abs=1e-12)


# delta rule


def delta_by_loops(weight, x, labels, classes, rate, l2):
    """W <- W - rate ((softmax(x W) - y)^T x / B + l2 W) over ``classes``, one number at a time."""
    result = [row[:] for row in weight]
    scores = [
        {k: sum(row[f] * weight[f][k] for f in range(len(row))) for k in classes} for row in x
    ]
    for f in range(len(weight)):
        for k in classes:
            gradient = 0.0
            for row, score, label in zip(x, scores, labels, strict=True):
                largest = max(score.values())
                total = sum(math.exp(s - largest) for s in score.values())
                error = math.exp(score[k] - largest) / total - (label == k)
                gradient += error * row[f]
            result[f][k] = weight[f][k] - rate * (gradient / len(x) + l2 * weight[f][k])
    return result


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 6), st.integers(1, 5), st.booleans())
def test_delta_equals_the_loops(seed, number, inputs, current_only):
    random = np.random.default_rng(seed)
    rate, l2, current = 0.5, 0.1, [4, 1, 3]
    kind = readout.DeltaCurrent if current_only else readout.Delta
    rule = Delta(inputs, 6, rate, l2, kind=kind)
    assert rule.weight.shape == (inputs, 6) and rule.weight.abs().max() == 0
    expected = rule.weight.tolist()
    for _ in range(3):
        x, labels = random.standard_normal((number, inputs)), random.choice(current, number)
        rule.learn(torch.from_numpy(x), torch.from_numpy(labels), current)
        classes = current if current_only else range(6)
        expected = delta_by_loops(expected, x.tolist(), labels.tolist(), classes, rate, l2)
        np.testing.assert_allclose(rule.weight, expected, rtol=1e-9, atol=1e-12)


# recursive least squares


def ridge(x, labels, classes, penalty):
    """(X^T X + penalty I)^-1 X^T Y, all rows at once."""
    targets = np.eye(classes)[labels]
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ targets)


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    inputs=st.integers(1, 8),
    block=st.integers(1, 40),
    penalty=st.sampled_from([0.01, 1.0, 30.0]),
)
def test_recursive_least_squares_is_the_joint_ridge_solution(seed, sizes, inputs, block, penalty):
    random = np.random.default_rng(seed)
    total = sum(sizes)
    x, labels = random.standard_normal((total, inputs)), random.integers(0, 4, total)
    expected = ridge(x, labels, 4, penalty)
    for order in (np.arange(total), random.permutation(total)):
        rule = RecursiveLeastSquares(inputs, 4, penalty)
        rule.block = block
        for rows in np.split(order, np.cumsum(sizes)[:-1]):
            rule.learn(torch.from_numpy(x[rows]), torch.from_numpy(labels[rows]), [0])
        np.testing.assert_allclose(rule.weight, expected, rtol=1e-7, atol=1e-8)
        rule.settle()
        np.testing.assert_allclose(rule.weight, expected, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(rule.gram, x.T @ x + penalty * np.eye(inputs), atol=1e-10)
        np.testing.assert_allclose(rule.moment, x.T @ np.eye(4)[labels], atol=1e-10)


def test_sequential_tasks_equal_joint_training_even_for_fewer_rows_than_inputs():
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((12, 30)), np.repeat([0, 1], 6)  # task 0 shows class 0 only
    rule = RecursiveLeastSquares(30, 2, 0.1)
    for position in range(2):
        rows = slice(6 * position, 6 * position + 6)
        rule.learn(torch.from_numpy(x[rows]), torch.from_numpy(labels[rows]), [position])
        assert rule.weight.isfinite().all()  # also read between the tasks
    np.testing.assert_allclose(rule.weight, ridge(x, labels, 2, 0.1), rtol=1e-8, atol=1e-9)


def rows(number, inputs=2, seed=0):
    random = np.random.default_rng(seed)
    labels = torch.arange(number) % 2
    return torch.from_numpy(random.standard_normal((number, inputs))), labels


@settings(max_examples=40, deadline=None)
@given(seed=seeds, inputs=st.integers(4, 12), share=st.floats(0, 1), penalty=st.floats(0.01, 30))
def test_few_rows_give_the_same_weights_and_the_same_state(seed, inputs, share, penalty):
    """While the rows are few the matrix is untouched; they are what is saved."""
    random = np.random.default_rng(seed)
    number = int(share * (inputs // 2 - 1))
    x, labels = random.standard_normal((number, inputs)), random.integers(0, 3, number)
    rule = RecursiveLeastSquares(inputs, 3, penalty)
    for row, label in zip(x, labels, strict=True):
        rule.learn(torch.from_numpy(row[None]), torch.tensor([label]), [0])
    eye = penalty * np.eye(inputs)
    expected = np.linalg.solve(x.T @ x + eye, x.T @ np.eye(3)[labels])
    np.testing.assert_allclose(rule.weight, expected, rtol=1e-9, atol=1e-11)
    loaded = RecursiveLeastSquares(inputs, 3, penalty)
    loaded.load_state_dict(rule.state_dict())
    np.testing.assert_array_equal(rule.gram, eye)
    assert torch.equal(loaded.weight, rule.weight)
    more, label = torch.from_numpy(random.standard_normal((inputs, inputs))), torch.tensor([1])
    for both in (rule, loaded):
        both.learn(more, label.expand(inputs), [0])
    assert torch.equal(loaded.weight, rule.weight) and torch.equal(loaded.gram, rule.gram)


@pytest.mark.parametrize(
    "fresh",
    [lambda: Delta(3, 2, 0.5, 0.1), lambda: RecursiveLeastSquares(3, 2, 1.0)],
    ids=["delta", "rls"],
)
def test_goes_on_from_its_state(fresh):
    rule, other = fresh(), fresh()
    rule.learn(*rows(6, 3), [0, 1])
    other.learn(*rows(3, 3, seed=1), [0, 1])  # forgotten by load, waiting rows too
    other.load_state_dict(rule.state_dict())
    assert torch.equal(other.weight, rule.weight)
    before = rule.weight.clone()
    for one in (rule, other):
        one.learn(*rows(5, 3, seed=2), [0, 1])
    assert torch.equal(other.weight, rule.weight)
    assert not torch.equal(rule.weight, before)


# streaming linear discriminant analysis


@settings(max_examples=40, deadline=None)
@given(seed=seeds, number=st.integers(3, 30), inputs=st.integers(1, 20))
def test_the_linear_discriminant_equals_that_of_all_images_at_once(seed, number, inputs):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.append(np.arange(3), random.integers(0, 3, number - 3)))
    x = random.standard_normal((number, inputs)) + labels[:, None]
    rule = lda.StreamingLDA(inputs + 1, 4, SimpleNamespace(ridge=0.5))
    for part in np.array_split(np.arange(number), 3):
        rows = np.append(x[part], np.ones((len(part), 1)), 1)
        rule.learn(torch.from_numpy(rows), torch.from_numpy(labels[part]), [0])
    means = [x[labels == k].mean(0) for k in range(3)]
    within = np.concatenate([x[labels == k] - means[k] for k in range(3)])
    inverse = np.linalg.inv(within.T @ within + 0.5 * np.eye(inputs))
    tests, before = random.standard_normal((5, inputs)), set(rule.state_dict())
    found = rule.scores(torch.from_numpy(np.append(tests, np.ones((5, 1)), 1)))
    for k, mean in enumerate(means):  # less what all classes share: half the distance to the mean
        away = tests - mean
        shared = np.einsum("nf,fg,ng->n", tests, inverse, tests) / 2
        distance = np.einsum("nf,fg,ng->n", away, inverse, away) / 2
        np.testing.assert_allclose(found[:, k], shared - distance, rtol=1e-6, atol=1e-8)
    assert (found[:, 3] < found[:, :3].amin(1)).all()  # never seen
    assert set(rule.state_dict()) == before  # rows stay rows


# the delta rule kept off what earlier tasks used


def test_rank_k_keeps_the_scores_of_the_first_task():
    """Its inputs lie in 3 directions; a basis of rank 3 protects them, one of rank 1 does not."""
    random = np.random.default_rng(0)
    first = torch.from_numpy(random.standard_normal((40, 3)) @ random.standard_normal((3, 12)))
    second = torch.from_numpy(random.standard_normal((40, 12)))
    labels = torch.from_numpy(random.integers(0, 2, 40))

    def change(rank):
        rule = Delta(12, 4, rate=0.1, l2=0.01, projected=True)
        for rows in torch.arange(40).split(8):
            rule.learn(first[rows], labels[rows], [0, 1])
        rule.subspace.extend(rank)
        before = [rule.scores(first), rule.scores(second)]
        for rows in torch.arange(40).split(8):
            rule.learn(second[rows], labels[rows] + 2, [2, 3])
        after = [rule.scores(first), rule.scores(second)]
        assert rule.subspace.basis.shape == (rank, 12)
        return [float((new - old).abs().max()) for old, new in zip(before, after, strict=True)]

    kept, moved = change(3)
    assert kept < 1e-5 < 0.1 < moved
    assert change(1)[0] > 0.01
    plain = Delta(12, 4, rate=0.1, l2=0.01)
    projected = Delta(12, 4, rate=0.1, l2=0.01, projected=True)
    for rule in (plain, projected):
        rule.learn(first, labels, [0, 1])
    assert torch.equal(plain.weight, projected.weight)  # the first task avoids nothing


def test_rank_k_continues_from_its_state():
    random = np.random.default_rng(1)
    x, labels = torch.from_numpy(random.standard_normal((30, 6))), torch.arange(30) % 3
    whole = Delta(6, 3, 0.1, 0.0, projected=True)
    whole.learn(x[:20], labels[:20], [0, 1, 2])
    whole.subspace.extend(2)
    whole.learn(x[:9], labels[:9], [0, 1, 2])
    again = Delta(6, 3, 0.1, 0.0, projected=True)
    again.load_state_dict(whole.state_dict())
    for rule in (whole, again):
        rule.learn(x[20:], labels[20:], [0, 1, 2])
        rule.subspace.extend(2)
    assert set(whole.state_dict()) == {"weight", "subspace.basis", "subspace.moment"}
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_a_pair_scores_what_its_parts_score():
    scores = np.random.default_rng(0).normal(size=(4, 9))
    found = of_pairs(torch.from_numpy(scores), 3)
    for first in range(3):
        for second in range(3):
            parts = [scores[:, first * 3 + j] + scores[:, j * 3 + second] for j in range(3)]
            np.testing.assert_allclose(found[:, first * 3 + second], sum(parts))
