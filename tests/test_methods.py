"""What every registered method must do: a new method is tested by being registered."""

from itertools import pairwise

import numpy as np
import pytest
import small_grid
import torch

from ltgate import checkpoint, methods, metrics
from ltgate.data import batches, open_task
from ltgate.data.tasks import TaskSpec
from ltgate.errors import UserError
from ltgate.methods.gradient import GradientLearner
from ltgate.methods.presets import ROWS
from ltgate.params import Params

# The rows of the study of timescales are one class with other neurons: those neurons have tests of
# their own (test_backend_streams.py), and here three stand for all.
KINDS = [
    x for x in methods.names() if x not in ROWS or x in ("either", "gate_layer", "gate_static")
]
TASKS = [
    TaskSpec(name="fast", classes=[0, 1, 2], frame_rate_hz=1000.0, duration_ms=10.0),
    TaskSpec(name="slow", classes=[7, 4], frame_rate_hz=50.0, duration_ms=120.0),
]
SMALL = {"name": "tiny", "tasks": TASKS, "validation_images": 12, "control": True}
PARAMS = Params(**{**small_grid.PARAMS, **SMALL})
CLASSES = 8  # labels go up to 7
pytestmark = pytest.mark.usefixtures("shared_home")


def opened(position, split="train"):
    return open_task(PARAMS, TASKS[position], split, seed=0)


def fresh(name, seed=0, params=PARAMS):
    return methods.create(name, params, np.random.default_rng(seed))


def shown(learner, position, seed=0):
    """One pass over what the method asks to see."""
    sources = [opened(index) for index in learner.curriculum(position)]
    for source in sources:
        for batch in batches(source, PARAMS.batch_size, np.random.default_rng([seed, position])):
            learner.learn(source, batch)


def learned(name, positions=(0, 1), learner=None):
    learner = learner or fresh(name)
    for position in positions:
        learner.begin_task(position, opened(position))
        shown(learner, position)
        learner.end_task(position)
    return learner


def scores(learner):
    return [learner.scores(opened(position, "validation")) for position in range(2)]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def close(one, other):
    """Equal up to the order of summation, which may follow the layout of the weights."""
    return all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(one, other, strict=True))


def tensors(learner):
    return {name: tensor.clone() for name, tensor in learner.state()[0].items()}


@pytest.fixture(params=KINDS)
def name(request):
    """Every registered method; of those that differ in the neuron alone, some."""
    return request.param


@pytest.fixture(scope="module")
def trained():
    """A learner of each method after both tasks, made when first asked for; do not change it."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = learned(name)
        return made[name]

    return get


def test_preset_goes_over_the_parameters(name):
    method = methods.METHODS[name]
    changed = PARAMS.with_(batch_size=5, seeds=[3, 4])
    configured = method.configure(changed)
    assert isinstance(configured, Params)
    for key, value in changed.model_dump().items():
        assert configured.model_dump()[key] == method.preset.get(key, value)
    assert method.configure(configured) == configured


def test_scores_every_image_over_all_classes(name, trained):
    learner = trained(name)
    for position in range(2):
        images = opened(position, "validation")
        found = learner.scores(images)
        assert found.shape == (len(images), CLASSES)
        assert found.dtype == torch.float64
        assert found.isfinite().all()
        few = learner.scores(images, 5)  # products of other shapes may round otherwise
        torch.testing.assert_close(few, found[:5], rtol=1e-6, atol=1e-6)
    assert torch.cat(scores(learner)).std(0).max() > 0  # the image matters


def test_scoring_changes_nothing(name, trained):
    learner = trained(name)
    before, plain = tensors(learner), learner.state()[1]
    first = scores(learner)
    assert equal(scores(learner), first)
    learner.spikes(opened(0, "validation"))
    after = tensors(learner)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert learner.state()[1] == plain


def test_every_task_changes_the_answers(name):
    learner = fresh(name)
    found = []
    for position in range(2):
        learned(name, [position], learner)
        found.append(scores(learner))
    for one, other in pairwise(found):
        assert not equal(one, other)


def test_learns_the_first_task(name):
    learner, images = learned(name, [0]), opened(0)
    accuracy = metrics.accuracy(learner.scores(images).numpy(), images.labels)
    assert accuracy > 0.45  # of 3 classes, on the images that it has seen


def test_the_seed_decides_everything(name, trained):
    again = learned(name)
    assert equal(scores(again), scores(trained(name)))
    assert again.state()[1] == trained(name).state()[1]
    assert not equal(scores(learned(name, learner=fresh(name, seed=1))), scores(again))


def test_state_goes_through_a_checkpoint(name, trained, tmp_path):
    learner = trained(name)
    state, plain = learner.state()
    checkpoint.save(tmp_path / "state", state, plain)  # tensors and plain data only
    other = fresh(name, seed=9)
    assert not equal(scores(other), scores(learner))
    other.load(*checkpoint.load(tmp_path / "state"))
    assert equal(scores(other), scores(learner))
    again, again_plain = other.state()
    assert again.keys() == state.keys() and again_plain == plain
    assert all(torch.equal(again[key], state[key]) for key in state)


@pytest.mark.parametrize("at", ["between tasks", "within a task"])
def test_goes_on_from_a_checkpoint_as_if_nothing_had_happened(name, at, tmp_path):
    learner = learned(name, [0])
    if at == "within a task":
        learner.begin_task(1, opened(1))
        shown(learner, 1, seed=1)
    checkpoint.save(tmp_path / "state", *learner.state())
    other = fresh(name, seed=9)
    other.load(*checkpoint.load(tmp_path / "state"))
    for one in (learner, other):
        if at == "between tasks":
            one.begin_task(1, opened(1))
        shown(one, 1)
        one.end_task(1)
    assert equal(scores(other), scores(learner))
    mine, its = tensors(learner), tensors(other)
    assert all(torch.equal(mine[key], its[key]) for key in mine)
    assert other.state()[1] == learner.state()[1]


def test_a_snapshot_answers_alike(name, trained, tmp_path):
    learner = trained(name)
    before = tensors(learner)
    checkpoint.save(tmp_path / "snapshot", *learner.snapshot())
    other = fresh(name, seed=9)
    other.load_snapshot(*checkpoint.load(tmp_path / "snapshot"))
    assert close(scores(other), scores(learner))
    assert other.spikes(opened(1, "validation")) == learner.spikes(opened(1, "validation"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in tensors(learner).items())


# the registry


def test_names_are_found_and_allowed_as_parameters():
    assert len(set(methods.names())) == len(methods.names()) >= 5
    assert Params(methods=methods.names()).methods == methods.names()
    with pytest.raises(UserError, match="lt_gate"):
        Params(methods=["lt_gat"])


# what defines single methods


def test_lt_gate_ends_where_joint_training_ends(trained):
    # recursive least squares on the same features: the order of the tasks does not matter
    for one, other in zip(scores(trained("lt_gate")), scores(trained("joint")), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_filters_freeze_after_the_first_task_but_where_they_learn_in_every_batch():
    for single in KINDS:
        learner = learned(single, [0])
        before = learner.network.fingerprint()
        learned(single, [1], learner)
        frozen = learner.network.fingerprint() == before
        moves = learner.filters.online or isinstance(learner, GradientLearner)
        assert frozen == (not moves), single


def test_random_features_keep_the_weights_as_drawn():
    learner = fresh("random_features")
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    learned("random_features", [0], learner)
    for name, tensor in learner.network.state_dict().items():
        moved = not torch.equal(tensor, before[name])
        assert not (moved and name.endswith("weight"))
    assert not torch.equal(learner.network.layers[0].threshold, before["conv1.threshold"])


def test_filters_are_learned_once_for_methods_that_share_them(monkeypatch):
    from ltgate.plasticity import competitive

    calls = []
    plain = competitive.learn

    def counted(*arguments):
        calls.append(1)
        return plain(*arguments)

    monkeypatch.setattr(competitive, "learn", counted)
    other = PARAMS.with_(eta_filters=0.5)  # filters that no other test has made
    prints = []
    for single in ("lt_gate", "sequential", "joint"):
        learner = fresh(single, params=other)
        learner.begin_task(0, opened(0))
        prints.append(learner.network.fingerprint())
        assert len(calls) == 2  # one for each layer, by the first
    assert len(set(prints)) == 1
    learner = fresh("lt_gate", seed=1, params=other)
    learner.begin_task(0, opened(0))
    assert len(calls) == 4 and learner.network.fingerprint() not in prints


# projector rankk on layers that never stop learning


def rank_k(rank=4):
    choices = {"filters": "always", "projector": "rankk", "projector_rank": rank, "eta": 0.2}
    params = PARAMS.with_(**choices, readout="delta", readout_rate=0.5, gate="fixed")
    return fresh("configured", params=params)


def test_rank_k_leaves_what_the_first_task_used():
    """Along its directions later updates change no weight, but for the bound on their length."""
    learner = learned("configured", (0,), rank_k())
    before = {layer.name: layer.weight.clone() for layer in learner.network.layers}
    rules = learner.filters.projectors
    basis = {name: rule.subspace.basis.clone() for name, rule in rules.items()}
    learned("configured", (1,), learner)
    for layer in learner.network.layers:
        H = basis[layer.name]
        assert 0 < len(H) <= 4
        old, new = before[layer.name].flatten(2), layer.weight.flatten(2)
        moved = (new - old).norm(dim=2) > 1e-3
        assert moved.any()
        inside, then = (old @ H.T)[moved], (new @ H.T)[moved]
        scale = (then * inside).sum(1, keepdim=True) / (inside * inside).sum(1, keepdim=True)
        assert ((then - scale * inside).abs() < 1e-3 * inside.norm(dim=1, keepdim=True)).all()
    assert learner.readout.subspace.basis.shape[0] == 8  # four for each task
    free = learned(
        "configured", (0, 1), fresh("configured", params=learner.params.with_(projector="none"))
    )
    assert not torch.equal(free.network.layers[-1].weight, learner.network.layers[-1].weight)
