"""Adam against PyTorch's, and its state."""

import torch

from ltgate.surrogate.adam import Adam


def gradients(number):
    made = torch.Generator().manual_seed(number)
    return {
        "a": torch.randn(3, 4, generator=made),
        "b": torch.randn(2, generator=made, dtype=torch.float64) * 1e-3,
    }


def test_steps_are_those_of_torch():
    mine = {name: torch.ones_like(g) for name, g in gradients(0).items()}
    its = {name: p.clone().requires_grad_() for name, p in mine.items()}
    adam, other = Adam.create(mine), torch.optim.Adam(its.values(), lr=0.1)
    for number in range(7):
        for name, move in adam.step(gradients(number)).items():
            mine[name] = mine[name] - 0.1 * move
            its[name].grad = gradients(number)[name]
        other.step()
    for name in mine:
        torch.testing.assert_close(mine[name], its[name].detach(), rtol=1e-5, atol=1e-7)


def test_goes_on_from_its_state():
    adam, other = Adam.create(gradients(0)), Adam.create(gradients(0))
    adam.step(gradients(1))
    other.load({name: value.clone() for name, value in adam.state().items()}, adam.steps)
    one, two = adam.step(gradients(2)), other.step(gradients(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(torch.equal(v, other.state()[k]) for k, v in adam.state().items())


def test_what_never_had_a_gradient_stays_exactly():
    adam = Adam.create(gradients(0))
    for number in range(3):
        found = gradients(number)
        found["a"][1] = 0
        assert (adam.step(found)["a"][1] == 0).all()


def test_a_part_of_the_gradient_is_measured_against_the_whole():
    plain, adam = Adam.create(gradients(0)), Adam.create(gradients(0))
    for number in range(4):
        whole = gradients(number)
        part = {name: 0.1 * gradient for name, gradient in whole.items()}
        moves, wanted = adam.step(part, whole), plain.step(whole)
    for name, move in moves.items():
        torch.testing.assert_close(move, 0.1 * wanted[name])
