"""Gradients through time: the compiled engine against autograd, both by hand; spikes as ever."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from ltgate import backends, surrogate
from ltgate.data.tasks import Schedule
from ltgate.errors import UserError
from ltgate.network import Network, create
from ltgate.neurons import Dynamics
from ltgate.surrogate import compiled

OPTIONS = list(
    product([(5.0, 100.0), (5.0,)], ["or", "blend"], ["raw", "normalised"], ["subtract", "zero"])
)
ENGINES = ["compiled", "portable"]


@pytest.fixture(autouse=True)
def threads():
    """One thread, or as many as a test sets; put back at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def network(random, dynamics, channels=(3, 4), strides=(1, 2), hidden=(6,), side=9) -> Network:
    made = create(
        dynamics, channels, strides, hidden, random, image_shape=(1, side, side), weight_scale=3.0
    )
    for layer in made.layers:
        layer.threshold = torch.from_numpy(random.uniform(0.1, 0.8, layer.threshold.shape)).float()
        layer.threshold *= 1 if dynamics.current == "raw" else 0.15
        layer.gate = torch.from_numpy(random.uniform(0, 1, layer.gate.shape)).float()
    return made


def pictures(random, count, side=9):
    """Images with a dark part, where neurons have no input at all."""
    images = random.integers(0, 256, (count, side, side)).astype(np.uint8)
    images[:, :, : side // 2] = 0
    return torch.from_numpy(images)


def clock(drive, dt=2.0):
    return Schedule("frame", dt, dt, np.asarray(drive, np.float32))


def linear(made, random, dtype=torch.float32, names=None, classes=3):
    sizes = {x.name: x.neurons for x in made.layers if x.name in (names or made.names[-1:])}
    return surrogate.LinearHead.drawn(sizes, classes, random).to(dtype)


def assert_engines_agree(made, images, labels, schedule, head, dtype=torch.float64, **options):
    """They share nothing: one is PyTorch's autograd through the neuron, one written by hand."""
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    found, wanted = (
        surrogate.loss_and_gradients(
            made, images, labels, schedule, head, engine=engine, dtype=dtype, **options
        )
        for engine in ENGINES
    )
    assert found.loss == pytest.approx(wanted.loss, rel=tolerance)
    for layer in made.layers:
        name = layer.name
        assert torch.equal(found.counts[name], wanted.counts[name])
        error = (found.weights[name] - wanted.weights[name]).abs().max()
        assert error <= tolerance * wanted.weights[name].abs().max(), name
        assert found.weights[name].shape == wanted.weights[name].shape == layer.weight.shape
    for name, gradient in wanted.head.items():
        error = (found.head[name] - gradient).abs().max()
        assert error <= tolerance * gradient.abs().max(), name
    return found


# gradients


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("tau", "output", "current", "reset"), OPTIONS)
def test_the_engines_agree_under_every_option(tau, output, current, reset, dtype):
    random = np.random.default_rng(7)
    made = network(random, Dynamics(tau, output, current, reset))
    head = linear(made, random, dtype)
    images, labels = pictures(random, 3), torch.tensor([0, 1, 2])
    schedule = clock(random.integers(0, 3, 12))
    found = assert_engines_agree(made, images, labels, schedule, head, dtype)
    for name in made.names:  # else equality would show nothing
        assert 0.01 < found.counts[name].float().mean() / 12 < 0.99
        assert found.weights[name].abs().max() > 1e-5


@pytest.mark.parametrize(
    ("channels", "strides", "hidden"),
    [([2], [2], []), ([], [], [5]), ([], [], [33, 4]), ([17, 35], [2, 2], [19, 5])],
)
def test_the_engines_agree_in_every_shape(channels, strides, hidden):
    random = np.random.default_rng(1)
    made = network(random, Dynamics(), channels, strides, hidden)
    head = linear(made, random, torch.float64)
    images, labels = pictures(random, 3), torch.tensor([2, 0, 1])
    assert_engines_agree(made, images, labels, clock(np.ones(9)), head)


@pytest.mark.parametrize("names", [("conv1",), ("conv2", "dense1"), ("conv1", "conv2", "dense1")])
def test_a_head_may_read_any_layers(names):
    random = np.random.default_rng(2)
    made = network(random, Dynamics())
    head = linear(made, random, torch.float64, names)
    images, labels = pictures(random, 3), torch.tensor([2, 0, 1])
    found = assert_engines_agree(made, images, labels, clock(np.ones(9)), head, slope=3.0)
    above = made.names[made.names.index(names[-1]) + 1 :]
    assert all(not found.weights[name].any() for name in above)


def test_neurons_that_fire_without_input_count():
    random = np.random.default_rng(3)
    made = network(random, Dynamics())
    made.layers[0].threshold[0, 1] = -0.25
    head = linear(made, random, torch.float64)
    images, labels = pictures(random, 3), torch.tensor([2, 0, 1])
    images[0] = 0
    found = assert_engines_agree(made, images, labels, clock(np.ones(9)), head)
    assert (found.counts["conv1"][0, 1] == 9).all()


class _Sum(nn.Module):
    """The spike count itself as the loss."""

    def forward(self, counts, labels):
        return counts["dense1"].flatten(1).sum(1)


@pytest.mark.parametrize("engine", ENGINES)
def test_gradient_by_hand(engine):
    """One neuron, two steps, current 1 in each; every compartment decays to half and weighs 1.

    theta 0.75 and 1.25; slope 1. Step 1: v = (1, 1), only the first crosses and gets all:
    h = 1 / 1.25^2 = 0.64; it is reset to 0.25. Step 2: v = (1.125, 1.5), both cross, half each:
    h = 1 / 1.375^2 and 1 / 1.25^2. dv_0 = 0.64 + half of dv_0 of step 2; dv_1 = half of dv_1 of
    step 2; the weight gradient is the sum over both steps, as the input is 1.
    """
    made = create(Dynamics((1 / np.log(2), 1 / np.log(2))), [], [], [1], np.random.default_rng(0))
    made.layers[0].weight = torch.zeros(2, 1, 784)
    made.layers[0].weight[:, 0, 0] = 2.0 - 2.0**-9
    made.layers[0].threshold = torch.tensor([[0.75], [1.25]]) * (1 - 2.0**-10)
    images = torch.zeros(1, 28, 28, dtype=torch.uint8)
    images[0, 0, 0] = 128
    found = surrogate.loss_and_gradients(
        made, images, torch.zeros(1), clock([1, 1], dt=1.0), _Sum(), slope=1.0, engine=engine
    )
    late = [0.5 / 1.375**2, 0.5 / 1.25**2]
    wanted = torch.tensor([0.64 + 1.5 * late[0], 1.5 * late[1]]) * 0.5  # the pixel is 1/2
    assert found.loss == 2.0
    torch.testing.assert_close(found.weights["dense1"][:, 0, 0], wanted, rtol=2e-3, atol=0)
    assert found.weights["dense1"].count_nonzero() == 2


# spikes


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("output", ["or", "blend"])
def test_spikes_are_those_of_the_backends(engine, output):
    random = np.random.default_rng(5)
    made = network(random, Dynamics(output=output), [16, 32, 64], [1, 2, 2], [48], side=28)
    images, schedule = pictures(random, 3, side=28), clock(np.ones(25), dt=1.0)
    head = linear(made, random)
    found = surrogate.loss_and_gradients(
        made, images, torch.tensor([0, 1, 2]), schedule, head, engine=engine
    )
    activity = backends.forward(made, images, schedule)
    for name in made.names:
        assert torch.equal(found.counts[name], activity.counts[name])
        assert found.counts[name].dtype == torch.int32
        assert 0.01 < found.counts[name].float().mean() / 25 < 0.99


# slices, threads, memory


def test_threads_change_nothing_and_memory_does_not_grow_with_the_batch(threads, monkeypatch):
    random = np.random.default_rng(9)
    made = network(random, Dynamics())
    head, schedule = linear(made, random), clock(np.ones(15))
    count = 3 * compiled.SLICE_IMAGES + 1
    images, labels = pictures(random, count), torch.arange(count) % 3
    workers = []

    class Counted(compiled.Worker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            workers.append(self)

    monkeypatch.setattr(compiled, "Worker", Counted)
    results = []
    for number in (1, 2, 3):
        threads(number)
        workers.clear()
        results.append(
            surrogate.loss_and_gradients(made, images, labels, schedule, head, engine="compiled")
        )
        assert 1 <= len(workers) <= number
        assert torch.get_num_threads() == number
    for other in results[1:]:
        assert other.loss == results[0].loss
        for name in made.names:
            assert torch.equal(other.weights[name], results[0].weights[name])
        for name in other.head:
            assert torch.equal(other.head[name], results[0].head[name])


def test_nothing_is_changed():
    random = np.random.default_rng(4)
    made = network(random, Dynamics())
    head = linear(made, random)
    for layer in made.layers:
        layer.weight.requires_grad_()
    before = [x.clone() for x in [*made.state_dict().values(), *head.state_dict().values()]]
    surrogate.loss_and_gradients(
        made, pictures(random, 2).numpy(), np.array([0, 1]), clock(np.ones(5)), head
    )
    after = [*made.state_dict().values(), *head.state_dict().values()]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert all(parameter.grad is None for parameter in head.parameters())
    assert all(layer.weight.grad is None for layer in made.layers)


def test_an_engine_that_cannot_is_named():
    random = np.random.default_rng(0)
    made = network(random, Dynamics())
    arguments = made, pictures(random, 1), torch.tensor([0]), clock(np.ones(3))
    with pytest.raises(UserError, match=r"'fpga' cannot run on 'cpu'.*compiled, portable"):
        surrogate.loss_and_gradients(*arguments, linear(made, random), engine="fpga")
