"""Adam with a second moment per neuron: against PyTorch's, along the gradient, and its state."""

import torch

from ltgate.methods.adam import Adam

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


def test_each_neuron_steps_along_its_gradient_whatever_its_size():
    adam = Adam(gradients(0))
    found = gradients(1)
    found["conv"][1, 2] *= 1e-3
    for name, move in adam.step(found, 1).items():
        size = found[name].flatten(2).square().mean(2).sqrt()
        size = size.view(*size.shape, *[1] * (move.dim() - 2))
        torch.testing.assert_close(move, found[name] / size, rtol=1e-4, atol=1e-5)


def test_goes_on_from_its_state():
    adam, other = Adam(gradients(0)), Adam(gradients(0))
    adam.step(gradients(1), 1)
    other.load_state_dict(adam.state_dict())
    one, two = (x.step(gradients(2), 2) for x in (adam, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in adam.state_dict().items())


def test_what_may_not_change_stays_exactly():
    adam = Adam(gradients(0))
    for number in (1, 2, 3):
        allowed = gradients(number)
        allowed["conv"][:, 1] = 0
        assert (adam.step(allowed, number)["conv"][:, 1] == 0).all()
