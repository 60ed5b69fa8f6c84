"""Weights on their grid, shapes, state, copies and fingerprints of networks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate.errors import UserError
from ltgate.network import GRID, create, to_grid, wire
from ltgate.neurons import Dynamics


def small(seed=0, **options):
    arguments = {"channels": [2, 3], "strides": [1, 2], "hidden": [5]} | options
    dynamics = arguments.pop("dynamics", Dynamics())
    return create(
        dynamics, generator=np.random.default_rng(seed), image_shape=(1, 6, 6), **arguments
    )


# the grid


@settings(max_examples=200, deadline=None)
@given(st.floats(-4, 4, width=32))
def test_rounded_to_the_nearest_multiple_and_clipped(weight):
    rounded = float(to_grid(torch.tensor(weight)))
    assert (rounded * 1024).is_integer()
    assert abs(rounded) < 2
    nearest = min(max(weight, -2047 / 1024), 2047 / 1024)
    assert abs(rounded - nearest) <= 0.5 / 1024
    assert float(to_grid(torch.tensor(rounded))) == rounded


def shuffled_sums(terms, random):
    """Float32 sums of ``terms`` one after the other, in 20 orders."""
    return {
        float(np.add.accumulate(random.permutation(terms), dtype=np.float32)[-1]) for _ in range(20)
    }


@pytest.mark.parametrize("seed", range(3))
def test_sums_on_the_grid_do_not_depend_on_their_order(seed):
    random = np.random.default_rng(seed)
    weights = torch.from_numpy(random.uniform(-3, 3, 3136).astype(np.float32))
    pixels = (random.integers(0, 256, 3136) / 256).astype(np.float32)
    gridded = to_grid(weights).numpy()
    # A dense layer sees spikes, the first convolution bytes / 256 through 9 weights.
    assert shuffled_sums(gridded, random) == {float(gridded.astype(np.float64).sum())}
    nine = gridded[:9] * pixels[:9]
    assert shuffled_sums(nine, random) == {float(nine.astype(np.float64).sum())}
    assert len(shuffled_sums(weights.numpy(), random)) > 1  # off the grid it does


def test_forward_values_are_rounded_and_learned_values_are_not():
    network = small(gate=0.3, weight_scale=30.0)
    for layer in network.layers:
        assert torch.equal(layer.forward_weight, to_grid(layer.weight))
        assert not torch.equal(layer.forward_weight, layer.weight)
        assert layer.forward_weight.abs().max() < 2
        assert layer.forward_gate.tolist() == [38 / 128] * len(layer.gate)  # .3 x 128 = 38.4
        layer.gate = torch.linspace(-1, 2, len(layer.gate))
        assert layer.forward_gate.min() == 0 and layer.forward_gate.max() == 1


# creation


@pytest.mark.parametrize("output", ["or", "blend"])
def test_published_network(output):
    network = create(
        Dynamics(output=output), [16, 32, 64], [1, 2, 2], [256], np.random.default_rng(0)
    )
    assert network.names == ["conv1", "conv2", "conv3", "dense1"]
    shapes = [layer.out_shape for layer in network.layers]
    assert shapes == [(16, 28, 28), (32, 14, 14), (64, 7, 7), (256, 1, 1)]
    assert [layer.in_shape for layer in network.layers] == [(1, 28, 28), *shapes[:-1]]
    assert [tuple(layer.weight.shape) for layer in network.layers] == [
        (2, 16, 1, 3, 3),
        (2, 32, 16, 3, 3),
        (2, 64, 32, 3, 3),
        (2, 256, 3136),
    ]
    assert [layer.neurons for layer in network.layers] == [12544, 6272, 3136, 256]
    assert [layer.is_conv for layer in network.layers] == [True, True, True, False]
    rows = 1 if output == "blend" else 2
    for layer in network.layers:
        assert layer.threshold.shape == (rows, layer.out_shape[0])
        assert layer.gate.shape == layer.out_shape[:1]
        assert (layer.threshold == 0.5).all() and (layer.gate == 0.5).all()


def test_seed_decides_the_weights():
    assert small(1).fingerprint() == small(1).fingerprint() != small(2).fingerprint()


# state, copies, fingerprints


def test_state_names_every_tensor():
    network = small()
    state = network.state_dict()
    assert list(state) == [
        f"{layer}.{field}"
        for layer in ("conv1", "conv2", "dense1")
        for field in ("weight", "threshold", "gate")
    ]
    assert torch.equal(state["conv2.threshold"], network.layers[1].threshold)


@pytest.mark.parametrize("name", list(small().state_dict()))
def test_load_rejects_another_shape(name):
    network = small()
    state = network.state_dict()
    state[name] = torch.zeros(*state[name].shape, 1)
    with pytest.raises(ValueError, match=rf"{name} has shape \(.*, 1\), needed is \("):
        network.load_state_dict(state)


@pytest.mark.parametrize("name", list(small().state_dict()))
def test_fingerprint_changes_with_each_tensor(name):
    network = small()
    before = network.fingerprint()
    tensor = network.state_dict()[name]
    tensor.view(-1)[-1] += 1 / 64
    assert network.fingerprint() != before
    tensor.view(-1)[-1] -= 1 / 64
    assert network.fingerprint() == before


def test_fingerprint_does_not_see_what_the_forward_pass_does_not():
    network = small()
    before = network.fingerprint()
    layer = network.layers[0]
    layer.weight = layer.forward_weight + 0.2 * GRID
    assert network.fingerprint() == before
    assert len(before) == 12 and int(before, 16) >= 0


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_wiring_keeps_some_inputs_of_every_neuron(groups):
    made = create(Dynamics(), [], [], [10], np.random.default_rng(0), (8, 2, 1))
    whole = made.layers[0].weight
    wire(made.layers[0], 3, groups, np.random.default_rng(1))
    kept = made.layers[0].weight != 0
    assert kept.shape == (2, 10, 16) and (kept.sum(2) == 3).all() and (kept[0] == kept[1]).all()
    assert torch.equal(made.layers[0].weight, whole * kept)
    parts = kept[0].view(10, groups, -1).any(2)
    assert parts.int().argmax(1).tolist() == [i * groups // 10 for i in range(10)]
    assert (parts.sum(1) == 1).all()


@pytest.mark.parametrize(
    ("channels", "fan_in", "groups", "told"),
    [
        ([4], 3, 1, "conv1 is a convolution"),
        ([], 17, 1, "dense1 is dense with 16 inputs"),
        ([], 9, 2, "dense1 is dense with 16 inputs"),
        ([], 3, 3, "dense1 is dense with 16 inputs"),
    ],
)
def test_wiring_that_cannot_be_is_refused(channels, fan_in, groups, told):
    made = create(
        Dynamics(), channels, [1] * len(channels), [2], np.random.default_rng(0), (8, 2, 1)
    )
    with pytest.raises(UserError, match=f"fan_in = {fan_in} of {groups} groups: {told}"):
        wire(made.layers[0], fan_in, groups, np.random.default_rng(1))
