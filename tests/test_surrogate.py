"""Gradients through time against autograd through the neuron's own step, and spikes as ever."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from ltgate import backends, neurons, surrogate
from ltgate.backends.portable import currents
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
    return surrogate.LinearHead(sizes, classes, random).to(dtype)


def autograd(made, images, labels, schedule, head, slope=10.0, dtype=torch.float32):
    """The whole network step by step through neurons.step, differentiated by PyTorch."""
    dynamics = made.dynamics
    decay = torch.from_numpy(dynamics.decay(schedule.dt_ms)).to(dtype).view(-1, 1, 1, 1, 1)
    gain = torch.from_numpy(dynamics.gain(schedule.charge_ms)).to(dtype).view(-1, 1, 1, 1, 1)
    weights = [layer.forward_weight.to(dtype).requires_grad_() for layer in made.layers]
    membranes = [
        torch.zeros(dynamics.compartments, len(images), *layer.out_shape, dtype=dtype)
        for layer in made.layers
    ]
    counts = dict.fromkeys(made.names, 0)
    for drive in schedule.drive:
        inputs = images[:, None].to(dtype) / 256 * float(drive)
        for index, (layer, weight) in enumerate(zip(made.layers, weights, strict=True)):
            stacked = weight.flatten(0, 1)
            if layer.is_conv:
                current = nn.functional.conv2d(inputs, stacked, stride=layer.stride, padding=1)
            else:
                current = inputs.flatten(1) @ stacked.T
            current = current.view(len(images), dynamics.compartments, *layer.out_shape)
            membranes[index], _, inputs = neurons.step(
                membranes[index],
                current.transpose(0, 1),
                decay,
                gain,
                layer.threshold.to(dtype)[:, None, :, None, None],
                gate=layer.forward_gate.to(dtype)[:, None, None],
                output=dynamics.output,
                reset=dynamics.reset,
                spike=lambda v, theta: neurons.surrogate(v, theta, slope),
            )
            counts[layer.name] = counts[layer.name] + inputs
    loss = head(counts, labels).mean()
    found = torch.autograd.grad(loss, [*weights, *head.parameters()], allow_unused=True)
    found = [None if x is None else x.detach() for x in found]
    return (
        loss.item(),
        dict(zip(made.names, found, strict=False)),
        dict(zip(dict(head.named_parameters()), found[len(weights) :], strict=True)),
        {name: count.detach() for name, count in counts.items()},
    )


def assert_is_autograd(made, images, labels, schedule, head, engine, dtype, **options):
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    loss, weights, parameters, counts = autograd(
        made, images, labels, schedule, head, dtype=dtype, **options
    )
    found = surrogate.loss_and_gradients(
        made, images, labels, schedule, head, engine=engine, dtype=dtype, **options
    )
    assert found.loss == pytest.approx(loss, rel=tolerance)
    for name in made.names:
        assert torch.equal(found.counts[name].to(dtype), counts[name])
        wanted = weights[name] if weights[name] is not None else torch.zeros(())
        error = (found.weights[name] - wanted).abs().max()
        assert error <= tolerance * wanted.abs().max(), name
        assert found.weights[name].shape == made.layers[made.names.index(name)].weight.shape
    for name, wanted in parameters.items():
        assert (found.head[name] - wanted).abs().max() <= tolerance * wanted.abs().max(), name
    return found


# gradients


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("tau", "output", "current", "reset"), OPTIONS)
def test_every_option_is_autograd(tau, output, current, reset, dtype, engine):
    random = np.random.default_rng(7)
    made = network(random, Dynamics(tau, output, current, reset))
    head = linear(made, random, dtype)
    images, labels = pictures(random, 3), torch.tensor([0, 1, 2])
    schedule = clock(random.integers(0, 3, 12))
    found = assert_is_autograd(made, images, labels, schedule, head, engine, dtype)
    for name in made.names:  # else equality would show nothing
        assert 0.01 < found.counts[name].float().mean() / 12 < 0.99
        assert found.weights[name].abs().max() > 1e-5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("channels", "strides", "hidden"),
    [([2], [2], []), ([], [], [5]), ([], [], [33, 4]), ([17, 35], [2, 2], [19, 5])],
)
def test_every_shape_is_autograd(channels, strides, hidden, engine):
    random = np.random.default_rng(1)
    made = network(random, Dynamics(), channels, strides, hidden)
    head = linear(made, random, torch.float64)
    images, labels = pictures(random, 3), torch.tensor([2, 0, 1])
    assert_is_autograd(made, images, labels, clock(np.ones(9)), head, engine, torch.float64)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("names", [("conv1",), ("conv2", "dense1"), ("conv1", "conv2", "dense1")])
def test_a_head_may_read_any_layers(names, engine):
    random = np.random.default_rng(2)
    made = network(random, Dynamics())
    head = linear(made, random, torch.float64, names)
    images, labels = pictures(random, 3), torch.tensor([2, 0, 1])
    found = assert_is_autograd(
        made, images, labels, clock(np.ones(9)), head, engine, torch.float64, slope=3.0
    )
    above = made.names[made.names.index(names[-1]) + 1 :]
    assert all(not found.weights[name].any() for name in above)


@pytest.mark.parametrize("engine", ENGINES)
def test_neurons_that_fire_without_input_count(engine):
    random = np.random.default_rng(3)
    made = network(random, Dynamics())
    made.layers[0].threshold[0, 1] = -0.25
    head = linear(made, random, torch.float64)
    images, labels = pictures(random, 3), torch.tensor([2, 0, 1])
    images[0] = 0
    found = assert_is_autograd(made, images, labels, clock(np.ones(9)), head, engine, torch.float64)
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


@pytest.mark.parametrize("engine", ENGINES)
def test_slices_change_nothing(engine):
    random = np.random.default_rng(8)
    made = network(random, Dynamics())
    head, schedule = linear(made, random, torch.float64), clock(np.ones(15))
    images, labels = pictures(random, 7), torch.arange(7) % 3

    def run(size):
        return surrogate.loss_and_gradients(
            made, images, labels, schedule, head, engine=engine, slice_images=size,
            dtype=torch.float64,
        )  # fmt: skip

    whole = run(7)
    for size in (1, 3, 100, None):
        parts = run(size)
        assert parts.loss == pytest.approx(whole.loss, rel=1e-13)
        for name in made.names:
            assert torch.equal(parts.counts[name], whole.counts[name])
            torch.testing.assert_close(
                parts.weights[name], whole.weights[name], rtol=1e-9, atol=1e-14
            )


def test_threads_change_nothing_and_memory_does_not_grow_with_the_batch(threads, monkeypatch):
    random = np.random.default_rng(9)
    made = network(random, Dynamics())
    head, schedule = linear(made, random), clock(np.ones(15))
    images, labels = pictures(random, 13), torch.arange(13) % 3
    workers = []

    class Counted(compiled._Worker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            workers.append(self)

    monkeypatch.setattr(compiled, "_Worker", Counted)
    results = []
    for number in (1, 2, 3):
        threads(number)
        workers.clear()
        results.append(
            surrogate.loss_and_gradients(
                made, images, labels, schedule, head, engine="compiled", slice_images=1
            )
        )
        assert 1 <= len(workers) <= number
        assert torch.get_num_threads() == number
    for other in results[1:]:
        assert other.loss == results[0].loss
        for name in made.names:
            assert torch.equal(other.weights[name], results[0].weights[name])
        for name in other.head:
            assert torch.equal(other.head[name], results[0].head[name])


def test_threads_are_put_back_after_an_error(threads):
    threads(2)
    random = np.random.default_rng(9)
    made = network(random, Dynamics())
    labels = torch.tensor([0, 1, 7])  # the head knows three classes
    with pytest.raises(IndexError):
        surrogate.loss_and_gradients(
            made, pictures(random, 3), labels, clock(np.ones(3)), linear(made, random)
        )
    assert torch.get_num_threads() == 2


def test_nothing_is_changed():
    random = np.random.default_rng(4)
    made = network(random, Dynamics())
    head = linear(made, random)
    for layer in made.layers:
        layer.weight.requires_grad_()
    before = [x.clone() for x in [*made.state().values(), *head.state_dict().values()]]
    surrogate.loss_and_gradients(
        made, pictures(random, 2).numpy(), np.array([0, 1]), clock(np.ones(5)), head
    )
    after = [*made.state().values(), *head.state_dict().values()]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert all(parameter.grad is None for parameter in head.parameters())
    assert all(layer.weight.grad is None for layer in made.layers)


# hooks


def test_a_projection_replaces_the_gradients():
    random = np.random.default_rng(6)
    made = network(random, Dynamics())
    head, schedule = linear(made, random), clock(np.ones(10))
    images, labels = pictures(random, 4), torch.tensor([0, 1, 2, 0])
    plain = surrogate.loss_and_gradients(made, images, labels, schedule, head)
    inputs = surrogate.rates(made, images, plain.counts, schedule)
    bases = {}
    for layer in made.layers:
        seen = surrogate.patches(layer, inputs[layer.name])
        bases[layer.name] = torch.linalg.svd(seen, full_matrices=False).Vh[:2]

    def project(name, gradient):
        flat, basis = gradient.flatten(2), bases[name]
        return (flat - flat @ basis.T @ basis).view_as(gradient)

    projected = surrogate.loss_and_gradients(made, images, labels, schedule, head, project=project)
    for name, basis in bases.items():
        along = plain.weights[name].flatten(2) @ basis.T
        assert along.abs().max() > 1e-4
        assert (projected.weights[name].flatten(2) @ basis.T).abs().max() < 1e-5 * along.abs().max()
        assert torch.equal(projected.weights[name], project(name, plain.weights[name]))
    assert projected.loss == plain.loss


def test_patches_are_what_the_weights_see():
    random = np.random.default_rng(0)
    made = network(random, Dynamics())
    for layer in made.layers:
        inputs = torch.from_numpy(random.uniform(0, 1, (2, *layer.in_shape))).float()
        seen = surrogate.patches(layer, inputs) @ layer.forward_weight.flatten(2).flatten(0, 1).T
        wanted = currents(layer, inputs).permute(0, 3, 4, 1, 2).flatten(3).flatten(0, 2)
        torch.testing.assert_close(seen, wanted)


def test_rates_are_means_over_the_steps():
    random = np.random.default_rng(0)
    made = network(random, Dynamics())
    images, schedule = pictures(random, 2), clock([1, 0, 2, 0, 1, 0])
    activity = backends.forward(made, images, schedule, raster=tuple(made.names))
    rates = surrogate.rates(made, images, activity.counts, schedule)
    torch.testing.assert_close(rates["conv1"], images[:, None].float() / 256 * (4 / 6))
    for before, layer in zip(made.names, made.layers[1:], strict=False):
        torch.testing.assert_close(rates[layer.name], activity.rasters[before].float().mean(0))
        assert rates[layer.name].shape == (2, *layer.in_shape)


# learning


@pytest.mark.parametrize("engine", ENGINES)
def test_two_classes_are_told_apart_after_a_few_steps(engine):
    random = np.random.default_rng(0)
    made = network(random, Dynamics(), [4], [2], [8])
    head = linear(made, random, classes=2)
    images = torch.zeros(8, 9, 9, dtype=torch.uint8)
    labels = torch.arange(8) % 2
    images[labels == 0, 1:4], images[labels == 1, 5:8] = 200, 200
    images += torch.from_numpy(random.integers(0, 50, images.shape).astype(np.uint8))
    weights = [layer.weight.requires_grad_() for layer in made.layers]
    optimiser = torch.optim.Adam([*weights, *head.parameters()], lr=0.03)
    losses = []
    for _ in range(15):
        found = surrogate.loss_and_gradients(
            made, images, labels, clock(np.ones(10)), head, engine=engine
        )
        losses.append(found.loss)
        for layer in made.layers:
            layer.weight.grad = found.weights[layer.name]
        for name, parameter in head.named_parameters():
            parameter.grad = found.head[name]
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]
    assert (head.scores(found.counts).argmax(1) == labels).all()


# mistakes


class _Blind(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, counts, labels):
        return nn.functional.cross_entropy(
            self.bias.expand(len(labels), 3), labels, reduction="none"
        )


def test_mistakes_are_named():
    random = np.random.default_rng(0)
    made = network(random, Dynamics())
    arguments = made, pictures(random, 1), torch.tensor([0]), clock(np.ones(3))
    with pytest.raises(UserError, match=r"'fpga' cannot run on 'cpu'.*compiled, portable"):
        surrogate.loss_and_gradients(*arguments, linear(made, random), engine="fpga")
    with pytest.raises(UserError, match="none of the layers conv1, conv2, dense1"):
        surrogate.loss_and_gradients(*arguments, _Blind())
