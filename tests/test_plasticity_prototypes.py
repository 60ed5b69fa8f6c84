"""The competing readout against its equation, one image at a time, and what it must not do."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ltgate.plasticity import prototypes

INPUTS, CLASSES = 6, 4


def Prototypes(inputs, classes, number):
    return prototypes.Prototypes(inputs, classes, SimpleNamespace(prototypes=number))


def images(number, seed=0):
    generator = np.random.default_rng(seed)
    x = torch.from_numpy(generator.random((number, INPUTS)))
    return x, torch.from_numpy(generator.integers(0, CLASSES - 1, number))


def one_by_one(x, labels, number):
    """The equation as it is written, image by image."""
    prototypes = [[] for _ in range(CLASSES)]
    wins = [[] for _ in range(CLASSES)]
    for features, label in zip(x.numpy(), labels.tolist(), strict=True):
        unit = features / np.linalg.norm(features)
        if len(prototypes[label]) < number:
            prototypes[label].append(unit)
            wins[label].append(1)
            continue
        winner = int(np.argmax([p @ unit for p in prototypes[label]]))
        wins[label][winner] += 1
        u = prototypes[label][winner]
        u = u + (unit - u) / wins[label][winner]
        prototypes[label][winner] = u / np.linalg.norm(u)
    return prototypes, wins


@pytest.mark.parametrize("number", [1, 3, 50])
def test_one_image_at_a_time_follows_the_equation(number):
    x, labels = images(60)
    readout = Prototypes(INPUTS, CLASSES, number)
    for row in range(len(x)):
        readout.learn(x[row : row + 1], labels[row : row + 1], [])
    prototypes, wins = one_by_one(x, labels, number)
    for label in range(CLASSES):
        count = len(prototypes[label])
        assert readout.wins[label].tolist() == wins[label] + [0] * (number - count)
        for k in range(count):
            assert readout.prototype[label, k].numpy() == pytest.approx(
                prototypes[label][k], rel=1e-5
            )


def test_scores_are_the_drive_of_the_strongest_neuron():
    readout = Prototypes(3, 2, 2)
    x = torch.tensor([[2.0, 0, 0], [0, 3.0, 0], [0, 0, 1.0]], dtype=torch.float64)
    readout.learn(x, torch.tensor([0, 0, 1]), [0, 1])
    scores = readout.scores(torch.tensor([[3.0, 4.0, 0.0]], dtype=torch.float64))
    assert scores.shape == (1, 2)
    assert scores.dtype == torch.float64
    assert scores[0].tolist() == pytest.approx([0.8, 0.0], rel=1e-6)


def test_images_of_other_classes_move_nothing():
    readout = Prototypes(INPUTS, CLASSES, 2)
    readout.learn(*images(40), [])
    before = readout.prototype[:3].clone()
    x, _ = images(20, seed=1)
    readout.learn(x, torch.full((20,), 3), [3])
    assert torch.equal(readout.prototype[:3], before)
    assert readout.prototype[3].norm(dim=1) == pytest.approx([1.0, 1.0], rel=1e-6)


def test_a_batch_counts_every_image_once():
    """Winners are found before any of them moves; each takes the mean of its wins."""
    readout = Prototypes(2, 1, 1)
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    readout.learn(first, torch.zeros(1, dtype=torch.int64), [0])
    two = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    readout.learn(two, torch.zeros(2, dtype=torch.int64), [0])
    expected = np.array([1 / 3, 2 / 3]) / np.hypot(1 / 3, 2 / 3)
    assert readout.prototype[0, 0].numpy() == pytest.approx(expected, rel=1e-6)
