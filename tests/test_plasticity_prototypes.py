"""The competing readout against its equation, one image at a time, and what it must not do."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ltgate.plasticity.prototypes import Prototypes, windows

INPUTS, CLASSES = 7, 4  # the last input is the bias
VIEWS = [(2, 3, 4), (3, 2, 1)]  # channels, height, width


def made(number, side=0, inputs=INPUTS, classes=CLASSES):
    """A readout that sees the views in windows of this side."""
    params = SimpleNamespace(prototypes=number, prototype_side=side)
    readout = Prototypes(inputs, classes, params)
    readout.arrange(VIEWS)
    return readout


def images(number, seed=0, inputs=INPUTS):
    generator = np.random.default_rng(seed)
    x = torch.from_numpy(generator.random((number, inputs)))
    x[:, -1] = 1
    return x, torch.from_numpy(generator.integers(0, CLASSES - 1, number))


def cut(image, side):
    """The windows of an image's views as flat arrays, view by view, row by row."""
    found, before = [], 0
    for channels, height, width in VIEWS:
        size = channels * height * width
        view = image[before : before + size].reshape(channels, height, width)
        high, wide = min(side, height), min(side, width)
        for row in range(height - high + 1):
            for column in range(width - wide + 1):
                found.append(view[:, row : row + high, column : column + wide].ravel())
        before += size
    return found


def one_by_one(parts, labels, number):
    """The equation as it is written, image by image: [class][window] -> prototypes, wins."""
    every = range(len(parts[0]))
    prototypes = [[[] for _ in every] for _ in range(CLASSES)]
    wins = [[[] for _ in every] for _ in range(CLASSES)]
    for image, label in zip(parts, labels, strict=True):
        for window, x in enumerate(image):
            known, won = prototypes[label][window], wins[label][window]
            if len(known) < number:
                known.append(x.copy())
                won.append(1)
                continue
            winner = int(np.argmax([p @ x - p @ p / 2 for p in known]))
            won[winner] += 1
            known[winner] += (x - known[winner]) / won[winner]
    return prototypes, wins


def drives(prototypes, image):
    """Of each class, the sum over windows of the strongest drive."""
    return [
        sum(
            max([p @ x - p @ p / 2 for p in known], default=0)
            for known, x in zip(own, image, strict=True)
        )
        for own in prototypes
    ]


@pytest.mark.parametrize("number", [1, 3, 50])
def test_one_image_at_a_time_follows_the_equation(number):
    x, labels = images(60)
    readout = made(number)
    for row in range(len(x)):
        readout.learn(x[row : row + 1], labels[row : row + 1], [])
    parts = [[image[:-1]] for image in x.numpy()]
    check(readout, parts, labels.tolist(), number)


@pytest.mark.parametrize("side", [1, 2, 9])
def test_windows_of_views_compete_apart(side):
    inputs = 1 + sum(int(np.prod(view)) for view in VIEWS)
    x, labels = images(40, inputs=inputs)
    readout = made(3, side, inputs)
    for row in range(len(x)):
        readout.learn(x[row : row + 1], labels[row : row + 1], [])
    check(readout, [cut(image, side) for image in x.numpy()], labels.tolist(), 3)


def check(readout, parts, labels, number):
    """State and scores are those of the equation."""
    prototypes, wins = one_by_one(parts, labels, number)
    assert readout.wins.shape == (CLASSES, len(parts[0]), number)
    for label in range(CLASSES):
        for window, known in enumerate(prototypes[label]):
            unused = [0] * (number - len(known))
            assert readout.wins[label, window].tolist() == wins[label][window] + unused
            for k, expected in enumerate(known):
                found = readout.prototype[label, window, k].numpy()
                assert found[: len(expected)] == pytest.approx(expected, rel=1e-5)
                assert not found[len(expected) :].any()


def test_scores_are_the_sum_over_windows_of_the_strongest_drives():
    inputs = 1 + sum(int(np.prod(view)) for view in VIEWS)
    x, labels = images(30, inputs=inputs)
    readout = made(50, 2, inputs)  # each neuron keeps its one image
    readout.learn(x, labels, [])
    tried, _ = images(8, seed=1, inputs=inputs)
    known, _ = one_by_one([cut(image, 2) for image in x.numpy()], labels.tolist(), 50)
    scores = readout.scores(tried)
    assert scores.dtype == torch.float64
    for image, found in zip(tried.numpy(), scores.tolist(), strict=True):
        assert found == pytest.approx(drives(known, cut(image, 2)), rel=1e-5)


def test_the_nearest_class_scores_highest():
    readout = made(2, inputs=4, classes=2)
    x = torch.tensor([[2.0, 0, 0, 1], [0, 3.0, 0, 1], [0, 0, 1.0, 1]], dtype=torch.float64)
    readout.learn(x, torch.tensor([0, 0, 1]), [0, 1])
    scores = readout.scores(torch.tensor([[1.0, 2.0, 0.0, 1.0]], dtype=torch.float64))
    assert scores[0].tolist() == pytest.approx([1.5, -0.5], rel=1e-6)


def test_windows_name_every_input_and_no_bias():
    inputs = sum(int(np.prod(view)) for view in VIEWS)
    for side in (1, 2, 3, 9):
        found = windows(VIEWS, side)
        assert found.unique().tolist()[:inputs] == list(range(inputs))
        assert found.max() <= inputs  # where a short window has ended


def test_images_of_other_classes_move_nothing():
    readout = made(2)
    readout.learn(*images(40), [])
    before = readout.prototype[:3].clone()
    x, _ = images(20, seed=1)
    readout.learn(x, torch.full((20,), 3), [3])
    assert torch.equal(readout.prototype[:3], before)
    assert (readout.wins[3] > 0).all()


def test_prototypes_are_means_after_any_batches():
    """Every image counts once, in every window: the wins' mean is the class's."""
    inputs = 1 + sum(int(np.prod(view)) for view in VIEWS)
    readout = made(4, 2, inputs)
    x, labels = images(200, inputs=inputs)
    for rows in torch.arange(200).split(32):
        readout.learn(x[rows], labels[rows], [])
    for label in range(3):
        own = x[labels == label].numpy()
        wins = readout.wins[label].numpy()
        assert (wins.sum(1) == len(own)).all()
        total = (readout.prototype[label].numpy() * wins[:, :, None]).sum(1)
        expected = np.sum([np.concatenate(cut(image, 2)) for image in own], 0)
        sizes = np.cumsum([len(part) for part in cut(own[0], 2)])[:-1]
        for found, part in zip(total, np.split(expected, sizes), strict=True):
            assert found[: len(part)] == pytest.approx(part, rel=1e-4)


def test_a_batch_counts_every_image_once():
    """Winners are found before any of them moves; each takes the mean of its wins."""
    readout = made(1, inputs=3, classes=1)
    first = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    readout.learn(first, torch.zeros(1, dtype=torch.int64), [0])
    two = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    readout.learn(two, torch.zeros(2, dtype=torch.int64), [0])
    assert readout.prototype[0, 0, 0].tolist() == pytest.approx([1 / 3, 2 / 3, 0], rel=1e-6)


def test_a_loaded_state_is_apart_from_what_is_learned_on():
    readout = made(3)
    readout.learn(*images(30), [])
    x, _ = images(5, seed=2)
    before = readout.scores(x)
    other = made(3)
    other.load_state_dict(readout.state_dict())
    readout.learn(*images(30, seed=3), [])
    assert torch.equal(other.scores(x), before)
    assert not torch.equal(readout.scores(x), before)
