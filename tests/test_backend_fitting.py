"""What does not fit a network is refused in one line by whatever runs it; what fits runs alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ltgate import backends, surrogate, train
from ltgate.data import idx, open_task
from ltgate.data.tasks import Schedule
from ltgate.errors import UserError
from ltgate.loihi import quantise, twin
from ltgate.methods.base import SpikingLearner
from ltgate.network import Network, create
from ltgate.neurons import Dynamics
from ltgate.params import Params

CLOCK = Schedule("pulse", 1.0, 4.0, (np.arange(30) % 4 == 0).astype(np.float32))
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)


def network(shape=(1, 28, 28)) -> Network:
    random = np.random.default_rng(0)
    return create(Dynamics(), [4, 6], [1, 2], [5], random, shape, threshold=0.3)


def pictures(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def integers(made, images):
    return quantise.quantise(made, [quantise.Samples(images, CLOCK)])


def on_backend(name):
    return lambda made, images, **more: backends.forward(
        made, images, CLOCK, raster=tuple(made.names), backend=name, **more
    )


def on_twin(made, images):
    net = integers(made, pictures(1, *made.layers[0].in_shape))
    return twin.forward(net, images, CLOCK.drive, tuple(net.names))


def on_engine(name):
    def run(made, images):
        sizes = {layer.name: layer.neurons for layer in made.layers}
        head = surrogate.LinearHead.drawn(sizes, 2, np.random.default_rng(0))
        labels = np.zeros(len(images), int)
        return surrogate.loss_and_gradients(made, images, labels, CLOCK, head, engine=name)

    return run


RUNS = {
    **{f"{name} backend": on_backend(name) for name in ("event", "portable")},
    "twin": on_twin,
    **{f"{name} gradients": on_engine(name) for name in ("compiled", "portable")},
}
GREY = r"\[B, 1, 28, 28\]$"


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize(
    ("shape", "images", "told"),
    [
        ((1, 28, 28), IMAGES[0], rf"^images: uint8 \[28, 28\]; this network takes .* {GREY}"),
        ((1, 28, 28), pictures(4, 32, 32), rf"\[4, 1, 32, 32\]; .* {GREY}"),
        ((1, 28, 28), pictures(4, 20, 20), rf"\[4, 1, 20, 20\]; .* {GREY}"),
        ((1, 28, 28), pictures(4, 3, 28, 28), rf"\[4, 3, 28, 28\]; .* {GREY}"),
        ((3, 32, 32), pictures(4, 32, 32), r"\[4, 32, 32\]; .* \[B, 3, 32, 32\]$"),
        ((3, 32, 32), pictures(4, 32, 32, 3), r"\[4, 32, 32, 3\]; .* \[B, 3, 32, 32\]$"),
        ((1, 28, 28), IMAGES.astype(np.float32) / 255, rf"float32 \[4, 1, 28, 28\]; .* {GREY}"),
        ((1, 28, 28), IMAGES > 127, rf"bool \[4, 1, 28, 28\]; .* {GREY}"),
    ],
    ids=["one image", "larger", "smaller", "colours", "grey", "channels last", "floats", "bits"],
)
def test_images_that_do_not_fit_are_refused_in_one_line(run, shape, images, told):
    with pytest.raises(UserError, match=told) as refused:
        run(network(shape), images)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["event", "portable"])
def test_a_float_network_takes_bytes_only(name):
    with pytest.raises(UserError, match=rf"int8 \[4, 1, 28, 28\]; this network takes uint8 {GREY}"):
        on_backend(name)(network(), IMAGES.astype(np.int8))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"raster": ("conv9",)}, "^'conv9' is no layer; known here: conv1, conv2, dense1$"),
        ({"schedule": replace(CLOCK, drive=np.ones(0))}, r"drive of shape \[0\]; .* T >= 1"),
        ({"schedule": replace(CLOCK, drive=np.ones((2, 3)))}, r"drive of shape \[2, 3\]"),
        ({"schedule": replace(CLOCK, drive=np.array([1, np.nan]))}, "finite numbers"),
        ({"schedule": replace(CLOCK, dt_ms=0.0)}, "steps of 0.0 ms; allowed are finite ones above"),
        ({"trace_decay": np.full(3, 0.5)}, r"trace_decay = \[0.5, 0.5, 0.5\]; .* 2 compartments"),
        ({"trace_decay": np.array([0.5, np.nan])}, "one finite number for each"),
    ],
)
@pytest.mark.parametrize("name", ["event", "portable"])
def test_the_rest_of_a_pass_that_does_not_fit(name, changes, told):
    with pytest.raises(UserError, match=told):
        backends.forward(network(), IMAGES, **{"schedule": CLOCK, "backend": name, **changes})


def test_a_layer_to_record_that_the_integer_network_has_not():
    with pytest.raises(UserError, match="'conv9' is no layer"):
        twin.forward(integers(network(), IMAGES), IMAGES, CLOCK.drive, raster=("conv9",))


def test_a_network_that_does_not_fit_itself():
    made = network()
    made.layers[1].weight = made.layers[1].weight[:1]
    with pytest.raises(UserError, match=r"conv2: weight has shape \(1, 6, 4, 3, 3\); needed is"):
        backends.forward(made, IMAGES, CLOCK)
    made = network()
    with pytest.raises(UserError, match=r"dense1: takes \(6, 14, 14\); conv1 before it gives"):
        backends.forward(Network(made.dynamics, made.layers[::2]), IMAGES, CLOCK)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 34, 34), (3, 32, 32), (2, 20, 13)], ids=str)
def test_images_of_any_shape_run_alike_everywhere(shape):
    made, images = network(shape), pictures(3, *shape)
    found = [run(made, images) for run in RUNS.values()]
    for name in made.names:
        counts = [one.counts[name] for one in found]
        assert min(count.sum() for count in counts) > 0
        event, portable, _, compiled, plain = counts
        assert torch.equal(event, portable)
        assert torch.equal(event, compiled.int()) and torch.equal(event, plain.int())
    if shape[0] == 1:
        flat = RUNS["event backend"](made, images[:, 0])
        assert all(torch.equal(flat.counts[name], found[0].counts[name]) for name in made.names)


@pytest.mark.parametrize("name", ["event backend", "portable backend", "twin"])
def test_crossings_under_blend_are_each_compartments_own(name):
    """With a gate of 1 or 0 one compartment alone makes the spikes; the other crosses by itself."""
    for gate, decides in ((1.0, 0), (0.0, 1)):
        made = network()
        made.dynamics = Dynamics(output="blend")
        for layer in made.layers:
            layer.threshold = layer.threshold[:1]
            layer.gate[:] = gate
        found = RUNS[name](made, IMAGES)
        for layer in made.names:
            spikes, crossings = found.counts[layer].sum((2, 3)), found.crossings[layer]
            assert torch.equal(crossings[:, decides], spikes.long())
            assert crossings.sum((0, 2)).min() > 0 and not torch.equal(*crossings.unbind(1))


@pytest.mark.parametrize("shape", [(34, 34), (3, 32, 32)], ids=str)
@pytest.mark.parametrize("method", ["lt_gate", "lt_gate_published", "hlop", "replay"])
def test_images_of_any_shape_go_from_files_to_the_readout(shape, method, tmp_path, monkeypatch):
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    monkeypatch.delenv("LTGATE_DATA_CACHE", raising=False)
    labels = (np.arange(48) % 4).astype(np.uint8)
    images = pictures(48, *shape) // 4
    for label in range(4):  # each class has its own bright rows
        images[labels == label, ..., 8 * label : 8 * label + 6, :] += 150
    pools = (images[:32], labels[:32]), (images[32:], labels[32:])
    tasks = [
        {"name": "a", "classes": [0, 1], "frame_rate_hz": 100.0, "duration_ms": 100.0},
        {"name": "b", "classes": [2, 3], "frame_rate_hz": 50.0, "duration_ms": 200.0},
    ]
    params = Params(
        source=idx.save(tmp_path / "mine", *pools), tasks=tasks, methods=[method], channels=[4, 4],
        strides=[1, 2], hidden=[6], readout_layers=["conv1/4", "dense"], batch_size=8, device="cpu",
        curve_points=1,
    )  # fmt: skip
    assert open_task(params, params.tasks[0], "train", 0).images.shape[1:] == shape
    trial = train.Trial(params, method, seed=0)
    rows = train.frame(train.train(trial) + train.evaluate(trial))
    accuracy = rows[(rows["metric"] == "accuracy") & (rows["scenario"] == "task")]["value"]
    assert len(accuracy) == 3 and accuracy.min() >= 0.5
    learner = trial.restore("task1.safetensors")
    assert isinstance(learner, SpikingLearner)
    assert learner.network.layers[0].in_shape == (1, *shape)[-3:]
