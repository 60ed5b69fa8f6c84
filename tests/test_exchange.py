"""NIR graphs: the same spikes when run by what NIR says alone."""

from itertools import product

import nir
import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from ltgate import __main__, backends, checkpoint, exchange, train
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.errors import UserError
from ltgate.network import create
from ltgate.neurons import Dynamics
from ltgate.params import Params

FAST = TaskSpec(name="fast", classes=[0, 1], frame_rate_hz=1000.0, duration_ms=20.0)
SLOW = TaskSpec(name="slow", classes=[2, 3], frame_rate_hz=50.0, duration_ms=60.0)
NEURONS = list(
    product([(5.0, 100.0), (20.0,)], ["or", "blend"], ["raw", "normalised"], ["subtract", "zero"])
)


def make(taus=(5.0, 100.0), output="or", current="raw", reset="subtract"):
    generator = np.random.default_rng(3)
    dynamics = Dynamics(taus, output, current, reset)
    network = create(dynamics, [3], [2], [6, 5], generator, image_shape=(1, 8, 8))
    for layer in network.layers:
        layer.weight = layer.weight * 2
        thetas = generator.uniform(0.1, 0.4, layer.threshold.shape)
        if current == "normalised":
            thetas = thetas / 3
        layer.threshold = torch.from_numpy(thetas.astype(np.float32))
        layer.gate = torch.from_numpy(generator.uniform(0, 1, len(layer.gate)).astype(np.float32))
    return network


def pictures(number=4):
    return torch.from_numpy(np.random.default_rng(5).integers(0, 256, (number, 8, 8), np.uint8))


def rasters(network, clock, images):
    names = tuple(network.names)
    return backends.forward(network, images, clock, raster=names, backend="portable").rasters


def interpret(path, network, clock, image):
    """Spikes of every node, step by step, by the equations of NIR; loops take one step."""
    graph, order = nir.read(path), list(exchange.to_nir(network, clock).nodes)
    nodes, dt = graph.nodes, clock.dt_ms / 1000
    state, before = {}, dict.fromkeys(nodes, 0.0)
    history = {name: [] for name in nodes}
    for drive in clock.drive:
        now = {}
        for name in order:  # in which they act; the file has them by name
            node = nodes[name]
            sources = [a for a, b in graph.edges if b == name]
            value = sum((now[a] if a in now else before[a] for a in sources), start=0.0)
            if isinstance(node, nir.Input):
                value = drive * image.numpy()[None] / 256
            elif isinstance(node, nir.Conv2d):
                x = torch.as_tensor(np.asarray(value, np.float64))[None]
                w = torch.as_tensor(np.asarray(node.weight, np.float64))
                value = functional.conv2d(
                    x, w, stride=tuple(map(int, node.stride)), padding=tuple(map(int, node.padding))
                )[0].numpy()
            elif isinstance(node, nir.Linear):
                value = node.weight.astype(np.float64) @ value
            elif isinstance(node, nir.Flatten):
                value = value.reshape(-1)
            elif isinstance(node, nir.Scale):
                value = node.scale * value
            elif isinstance(node, nir.LI | nir.LIF):
                decay = np.exp(-dt / node.tau)
                v = decay * state.get(name, 0.0) + (1 - decay) * node.r * value
                if isinstance(node, nir.LIF):
                    value = (v > node.v_threshold).astype(float)
                    v = np.where(value > 0, node.v_reset, v)
                else:
                    value = v
                state[name] = v
            elif isinstance(node, nir.Threshold):
                value = (value > node.threshold).astype(float)
            now[name] = value
            history[name].append(value)
        before = now
    return history


def same_spikes(path, network, clock, images):
    """The file, run by the equations of NIR, gives the network's spikes."""
    wanted = rasters(network, clock, images)
    for index, image in enumerate(images):
        history = interpret(path, network, clock, image)
        for name in network.names:
            spikes = np.stack(history[f"{name}_spikes"])
            assert (spikes == wanted[name][:, index].numpy().reshape(spikes.shape)).all(), name
    assert wanted[network.names[0]].any()


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: "-".join(map(str, n)))
def test_the_graph_alone_is_the_neuron(neuron, tmp_path):
    """What a simulator that knows NIR and nothing of us computes: exact but for rounding."""
    network, images = make(*neuron), pictures(1)
    if network.dynamics.blended and not network.dynamics.subtracts:
        with pytest.raises(UserError, match="has no NIR graph"):
            exchange.to_nir(network, schedule(FAST, "frame"))
        return
    for task, presentation in ((FAST, "frame"), (SLOW, "frame"), (SLOW, "pulse")):
        clock = schedule(task, presentation)
        exchange.write(tmp_path / "net.nir", network, clock)
        same_spikes(tmp_path / "net.nir", network, clock, images)


@pytest.fixture(scope="module")
def snapshot(shared_home):
    params = Params(
        name="tiny", tasks=[FAST, SLOW], train_images=16, validation_images=8, channels=[2, 3],
        strides=[2, 2], hidden=[4], readout_layers=["conv1", "conv2"], filter_passes=2,
        calibration_iterations=2, threads=1, device="cpu", backend="portable",
    )  # fmt: skip
    trial = train.Trial(params, "single_tau", seed=2)
    train.train(trial)
    return trial


def test_a_snapshot_goes_to_nir_from_the_command_line(snapshot, tmp_path, capsys):
    source, target = snapshot.folder / "task1.safetensors", tmp_path / "net.nir"
    assert __main__.main(["export", str(source), str(target), "--task", "1"]) == 0
    assert str(target) in capsys.readouterr().out
    learner, clock = snapshot.restore("task1.safetensors"), schedule(SLOW, "frame")
    images = torch.from_numpy(snapshot.open(1, "validation").images[:1])
    same_spikes(target, learner.network, clock, images)
    assert nir.read(target).metadata["dt_ms"] == 20.0
    assert __main__.main(["export", str(source), str(target), "--task", "2"]) == 2


def test_a_snapshot_of_before_has_no_graph(snapshot, tmp_path):
    tensors, plain = checkpoint.load(snapshot.folder / "task1.safetensors")
    del plain["about"]
    checkpoint.save(tmp_path / "old.safetensors", tensors, plain)
    with pytest.raises(UserError, match="tells its parameters"):
        exchange.export(tmp_path / "old.safetensors", tmp_path / "net.nir")


@pytest.mark.parametrize(
    "changes",
    [
        {"about": 3},
        {"about": {"parameters": {"etta": 1}}},
        {"about": {"parameters": {"hidden": [10**12]}, "method": "single_tau"}},
        {"about": {"parameters": {"channels": [10**15] * 3}, "method": "single_tau"}},
        {"about": {"parameters": {"warp_channels": 10**14, "source": "warp"}, "method": "hlop"}},
        {"about": {"parameters": {}, "method": "no_such"}},
        {"about": {"parameters": {}, "method": "single_tau"}},  # of another network
    ],
)
def test_a_stranger_s_snapshot_is_refused_in_one_line(snapshot, tmp_path, changes):
    path = tmp_path / "a.safetensors"
    tensors, plain = checkpoint.load(snapshot.folder / "task1.safetensors")
    checkpoint.save(path, tensors, {**plain, **changes})
    with pytest.raises(UserError, match=rf"^checkpoint {path}[^\n]+$"):
        exchange.export(path, tmp_path / "net.nir")
    assert list(tmp_path.iterdir()) == [path]
