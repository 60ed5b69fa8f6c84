"""Methods trained by surrogate gradients: what they share, and what defines each."""

import numpy as np
import pytest
import small_grid
import torch

from ltgate import backends, methods, surrogate
from ltgate.data import batches, open_task
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.methods import dsd_snn, hlop
from ltgate.methods.gradient import READOUT, Adam
from ltgate.network import KERNEL
from ltgate.params import Params
from ltgate.plasticity.projector import patches

TASKS = [
    TaskSpec(name="fast", classes=[0, 1, 2], frame_rate_hz=1000.0, duration_ms=20.0),
    TaskSpec(name="slow", classes=[3, 4], frame_rate_hz=50.0, duration_ms=120.0),
    TaskSpec(name="last", classes=[5, 6], frame_rate_hz=500.0, duration_ms=40.0),
]
PARAMS = Params(**{
    **small_grid.PARAMS, "name": "tiny", "tasks": TASKS, "train_images": 32,
    "validation_images": 12, "channels": [8, 10], "hidden": [20], "readout_layers": ["dense"],
    "calibration_iterations": 6, "batch_size": 16, "gradient_batch": 8,
})  # fmt: skip
pytestmark = pytest.mark.usefixtures("shared_home", "one_thread")


@pytest.fixture(params=["hlop", "dsd_snn"])
def name(request):
    return request.param


def opened(position, split="train"):
    return open_task(PARAMS, TASKS[position], split, seed=0)


def fresh(name, **changes):
    """A learner whose parameters ``changes`` go over its preset."""
    cls = methods.METHODS[name]
    return cls(cls.configure(PARAMS).with_(**changes), np.random.default_rng(0))


def begun(learner, position):
    learner.begin_task(position, opened(position))
    return learner


def shown(learner, position):
    images = opened(position)
    for batch in batches(images, PARAMS.batch_size, np.random.default_rng(position)):
        learner.learn(images, batch)
    return learner


def learned(learner, *positions):
    for position in positions:
        shown(begun(learner, position), position).end_task(position)
    return learner


def weights(learner):
    found = {layer.name: layer.weight.clone() for layer in learner.network.layers}
    return {**found, READOUT: learner.readout.weight.clone()}


def counts(learner, position):
    images = opened(position, "validation")
    activity = learner.filters.forward(learner.network, images.task, images.images[:])
    return {name: count.flatten(1) for name, count in activity.counts.items()}


# what they share


def test_a_step_lowers_the_loss_on_its_batch(name):
    learner = begun(fresh(name, gradient_rate=0.001, gradient_batch=32), 0)
    images = opened(0)
    steps = schedule(images.task, "frame")
    losses = []
    for _ in range(4):
        learner.shown = 0  # the rate of the first step
        learner.step(images.task, images.images[:], images.labels)
        scores = learner.readout_inputs(
            learner.filters.forward(learner.network, images.task, images.images[:]).counts
        )
        scores = scores @ learner.readout.weight
        losses.append(torch.nn.functional.cross_entropy(scores, torch.tensor(images.labels)))
    assert len(steps) == 20
    assert losses[-1] < losses[0] < np.log(learner.classes)


def test_the_first_task_is_learned(name):
    learner = begun(fresh(name, head_rate=0.05, dsd_start=1.0, dsd_pruning=0), 0)
    learner.total *= 6
    for _ in range(6):
        shown(learner, 0)
    images = opened(0)
    best = learner.scores(images)[:, TASKS[0].classes].argmax(1)
    assert (best.numpy() == images.labels).mean() > 0.9


def test_thresholds_are_calibrated_on_the_first_task_and_then_stay(name):
    learner = fresh(name)
    before = [layer.threshold.clone() for layer in learner.network.layers]
    learned(learner, 0)
    first = [layer.threshold.clone() for layer in learner.network.layers]
    assert not any(torch.equal(x, y) for x, y in zip(before, first, strict=True))
    learned(learner, 1)
    for layer, threshold in zip(learner.network.layers, first, strict=True):
        assert torch.equal(layer.threshold, threshold)


def test_current_classes_compete_alone_where_wanted(name):
    for choice, others in (("current", False), ("all", True)):
        learner = learned(fresh(name, head_classes=choice), 0)
        assert learner.readout.weight[:, TASKS[0].classes].any()
        assert learner.readout.weight[:, TASKS[1].classes].any() == others


def test_the_gradient_is_that_of_cross_entropy_among_the_classes():
    learner = begun(fresh("hlop", head_classes="current"), 1)
    learner.readout.weight = torch.randn(
        learner.readout.weight.shape,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
    )
    images = opened(1)
    activity = learner.filters.forward(learner.network, images.task, images.images[:])
    weight = learner.readout.weight.clone().requires_grad_()
    scores = (learner.readout_inputs(activity.counts) @ weight)[:, [3, 4]]
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(images.labels) - 3)
    loss.backward()
    head = surrogate.LinearHead(learner.readout.weight, learner.readout_inputs, [3, 4])
    found = surrogate.loss_and_gradients(
        learner.network, images.images[:], images.labels, schedule(images.task, "frame"), head
    )
    assert found.loss == pytest.approx(loss.item())
    torch.testing.assert_close(found.head["weight"], weight.grad)


def test_the_rate_falls_to_zero_within_a_task(name):
    learner = begun(fresh(name, dsd_pruning=0), 0)
    images = opened(0)
    sizes = []
    for part in range(5):
        before = learner.network.layers[-1].weight
        rows = slice(8 * part % 32, 8 * part % 32 + 8)
        learner.step(images.task, images.images[rows], images.labels[rows])
        sizes.append((learner.network.layers[-1].weight - before).abs().max().item())
    assert sizes[0] == 0  # the readout starts at zero and hands nothing on
    assert sizes[1] > 2 * sizes[3] > 0  # cosine: 1, 0.85, 0.5, 0.15
    assert sizes[4] == 0  # beyond what was announced


def test_counts_of_a_changing_network_leave_no_files(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LTGATE_DATA_CACHE", str(tmp_path))
    learner = learned(fresh(name), 0)
    learner.scores(opened(0, "validation"))
    assert not list(tmp_path.glob("features/*"))


# HLOP


def test_an_update_of_hlop_changes_no_current_of_inputs_inside_the_frozen_subspaces():
    learner = learned(fresh("hlop", hlop_first=0.4), 0)
    begun(learner, 1)
    before = weights(learner)
    shown(learner, 1)
    after = weights(learner)
    random = torch.Generator().manual_seed(0)
    for name, subspace in learner.neurons.items():
        change = (after[name] - before[name]).double()
        change = change[:-1].T if name == READOUT else change.flatten(2)
        assert 0 < subspace.frozen < len(subspace.rows)
        inside = subspace.rows[: subspace.frozen].T.double()
        inside = inside @ torch.randn(inside.shape[1], 5, generator=random, dtype=torch.float64)
        inside = inside / inside.norm(dim=0)
        outside = torch.randn(len(inside), 5, generator=random, dtype=torch.float64)
        outside = outside / outside.norm(dim=0)
        moved = (change @ outside).abs().max()
        assert moved > 1e-3, name
        assert (change @ inside).abs().max() < 1e-4 * moved, name
    assert torch.equal(after[READOUT][-1], before[READOUT][-1])  # the bias


def test_what_hlop_protects_are_the_directions_that_the_task_used():
    learner = begun(fresh("hlop", hlop_first=0.4), 0)
    random = {name: subspace.rows for name, subspace in learner.neurons.items()}
    for _ in range(3):
        shown(learner, 0)
    learner.end_task(0)
    images = opened(0)
    activity = learner.filters.forward(learner.network, images.task, images.images[:])
    steps = schedule(images.task, "frame")
    seen = hlop.rates(learner.network, images.images[:], activity.counts, steps)
    for layer in learner.network.layers:
        rows = learner.neurons[layer.name].rows
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)
        x = patches(seen[layer.name], KERNEL, layer.stride)
        lost, chance = (
            1 - (x @ basis.T).square().sum() / x.square().sum()
            for basis in (rows, random[layer.name])
        )
        assert lost < 0.4 * chance, layer.name


def test_rates_are_means_over_the_steps():
    learner, images = fresh("hlop"), opened(0)
    made, pixels, steps = learner.network, images.images[:2], schedule(images.task, "pulse")
    activity = backends.forward(made, pixels, steps, raster=tuple(made.names))
    rates = hlop.rates(made, pixels, activity.counts, steps)
    pixels = torch.from_numpy(pixels)[:, None].float() / 256
    torch.testing.assert_close(rates["conv1"], pixels * float(steps.drive.mean()))
    for before, layer in zip(made.names, made.layers[1:], strict=False):
        torch.testing.assert_close(rates[layer.name], activity.rasters[before].float().mean(0))
        assert rates[layer.name].shape == (2, *layer.in_shape)


# DSD-SNN


def test_old_answers_of_dsd_snn_are_the_same_to_the_last_bit():
    learner = learned(fresh("dsd_snn", dsd_growth=0.25, dsd_pruning=30), 0)
    for position in (1, 2):
        images = opened(0, "validation")
        hidden, scores = counts(learner, 0), learner.scores(images)
        units = {name: owner >= 0 for name, owner in learner.owner.named_buffers()}
        old = {name: learner.owner[name].clone() for name in units}
        known = [label for task in TASKS[:position] for label in task.classes]
        learned(learner, position)
        after = counts(learner, 0)
        for name in units:
            assert torch.equal(learner.owner[name][units[name]], old[name][units[name]])
            used = units[name].repeat_interleave(hidden[name].shape[1] // len(units[name]))
            assert hidden[name][:, used].any()
            assert torch.equal(after[name][:, used], hidden[name][:, used])
        again = learner.scores(images)
        assert torch.equal(again[:, known], scores[:, known])
        assert not torch.equal(again, scores)  # the new classes' are not


def test_growth_of_dsd_snn_takes_only_units_that_were_never_used():
    learner = fresh("dsd_snn", dsd_start=0.3, dsd_growth=0.25)
    ever = {
        name: torch.zeros(len(owner), dtype=torch.bool)
        for name, owner in learner.owner.named_buffers()
    }
    for position, share in enumerate((0.3, 0.25, 0.25)):
        begun(learner, position)
        for name, owner in learner.owner.named_buffers():
            new = owner == position
            assert new.sum() == int(share * len(owner))
            assert not (new & ever[name]).any()
            ever[name] |= new
        shown(learner, position)
        learner.end_task(position)


def test_units_that_dsd_snn_pruned_or_never_used_are_silent():
    learner = learned(fresh("dsd_snn", dsd_start=0.8, dsd_growth=0.2, dsd_pruning=30), 0, 1)
    for layer in learner.network.layers:
        owner = learner.owner[layer.name]
        assert (owner == dsd_snn.PRUNED).any(), layer.name
        silent = owner < 0
        assert not layer.weight[:, silent].any()
        for position in range(2):
            seen = counts(learner, position)[layer.name]
            fired = seen.view(len(seen), len(owner), -1).any(2).any(0)
            assert not fired[silent].any() and fired[~silent].any()
    weight = learner.network.layers[1].weight
    assert not weight[:, :, learner.owner["conv1"] < 0].any()  # what led from them


def test_pruning_rounds_are_spread_over_the_task(monkeypatch):
    rounds = []
    monkeypatch.setattr(
        dsd_snn.DSDSNN, "_prune", lambda self, layer, number: rounds.append((self.shown, number))
    )
    learned(fresh("dsd_snn", dsd_pruning=6), 0)  # 32 images, 16 a batch
    own = rounds[:: len(PARAMS.channels) + len(PARAMS.hidden)]
    assert own == [(16, 2), (16, 3), (32, 4), (32, 5), (32, 6)]  # from the second on


def test_the_score_of_a_unit_by_hand():
    score = dsd_snn.score_after(
        torch.tensor([5.0, 5.0, 0.1]), torch.tensor([0.0, 0.5, 0.25]), limit=0.8, number=2, fall=13
    )
    torch.testing.assert_close(score, torch.tensor([4.195, 8.195, -0.2001]))
    late = dsd_snn.score_after(torch.tensor([5.0]), torch.tensor([0.0]), 1.3, number=14, fall=13)
    torch.testing.assert_close(late, torch.tensor([4.995 - 1.3 / np.e]).float())


def test_importance_spans_zero_to_one():
    found = dsd_snn.importance(torch.tensor([3.0, 1.0, 2.0]))
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 0.5]))
    assert dsd_snn.importance(torch.tensor([2.0, 2.0])).tolist() == [1, 1]
    assert len(dsd_snn.importance(torch.tensor([]))) == 0


# Adam with a second moment per neuron

SHAPES = {"conv": (2, 3, 4, 3, 3), "readout": (1, 5, 6)}


def gradients(number):
    made = torch.Generator().manual_seed(number)
    return {name: torch.randn(shape, generator=made) for name, shape in SHAPES.items()}


def test_neurons_with_one_input_step_as_in_torch():
    mine, its = torch.ones(2, 7, 1), torch.ones(2, 7, 1, requires_grad=True)
    adam, other = Adam({"a": mine}), torch.optim.Adam([its], lr=0.1)
    for number in range(1, 8):
        its.grad = torch.randn(2, 7, 1, generator=torch.Generator().manual_seed(number))
        mine = mine - 0.1 * adam.step({"a": its.grad}, number)["a"]
        other.step()
    torch.testing.assert_close(mine, its.detach(), rtol=1e-5, atol=1e-7)


def test_a_step_by_hand():
    adam = Adam({"a": torch.zeros(1, 1, 2)})
    first, second = torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[1.0, -3.0]]])
    move = adam.step({"a": first}, 1)["a"]  # mean square 5
    torch.testing.assert_close(move, first / 5**0.5)
    move = adam.step({"a": second}, 2)["a"]
    torch.testing.assert_close(move, (0.09 * first + 0.1 * second) / 0.19 / 5**0.5)


def test_what_may_not_change_stays_exactly():
    adam = Adam(gradients(0))
    for number in (1, 2, 3):
        allowed = gradients(number)
        allowed["conv"][:, 1] = 0
        assert (adam.step(allowed, number)["conv"][:, 1] == 0).all()
