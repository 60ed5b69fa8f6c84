"""The README's own code runs, and what it registers passes the tests that everything registered
has to pass (those of methods: ``test_methods.py``)."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ltgate import backends, methods, neurons, paths, results, train
from ltgate.data import sources
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.network import create
from ltgate.neurons import Dynamics
from ltgate.params import Params

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Bring your own")[1].split("\n## ")[0]
TASKS = [
    TaskSpec(name="fast", classes=[0, 1, 2], frame_rate_hz=1000.0, duration_ms=10.0),
    TaskSpec(name="slow", classes=[7, 4], frame_rate_hz=50.0, duration_ms=120.0),
]
OFFLINE = [name for name in sources.SOURCES if name != "mnist"]
SMALL = {
    "name": "mine", "tasks": TASKS, "train_images": 16, "validation_images": 8, "test_images": 8,
    "channels": [2, 3], "strides": [2, 2], "hidden": [4], "readout_layers": ["conv1", "conv2"],
    "filter_passes": 2, "calibration_iterations": 2, "threads": 1, "device": "cpu",
    "backend": "portable", "control": False,
}  # fmt: skip


def run_blocks(folder: Path) -> dict:
    """Execute the section's Python, block by block, in ``folder``."""
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL):
            exec(compile(block, "README.md", "exec"), names)
    return names


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A home in which a first run has left a checkpoint, and the README's code has run."""
    folder = tmp_path_factory.mktemp("home")
    registries = (methods.METHODS, neurons.OUTPUTS, backends.BACKENDS, sources.SOURCES)
    before = [dict(registry) for registry in registries]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTGATE_HOME", str(folder))
        trial = train.Trial(Params(**SMALL), "random_features", seed=0)
        train.train(trial)
        (trial.folder / "task1.safetensors").rename(folder / "task1.safetensors")
        yield folder, run_blocks(folder)
    for registry, was in zip(registries, before, strict=True):
        registry.clear()
        registry.update(was)


def test_the_checkpoint_is_read_without_the_library(home):
    names = home[1]
    assert names["about"]["method"] == "random_features" and names["about"]["task"] == "slow"
    assert names["weights"].shape == (2, 2, 1, 3, 3)


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({"source": "idx:my_images"}, "random_features"),
        ({}, "patient"),
        ({"output": "and"}, "random_features"),
        ({"backend": "chip"}, "lt_gate"),
    ],
    ids=["data", "method", "neuron", "backend"],
)
def test_what_the_readme_brings_trains_and_is_tested(changes, method):
    params = Params(**{**SMALL, "methods": [method], **changes})
    train.run(params)
    rows = results.choose(results.load(paths.run("mine")), config=params.hash, method=method)
    accuracy = results.choose(rows, metric="accuracy", scenario="class", split="test")
    assert len(accuracy) == 3 and accuracy["value"].between(0, 1).all()


# ---------------------------------------------------- every source that can be had offline


@pytest.mark.parametrize(
    "name", [f"{name}my_images" if name == "idx:" else name for name in OFFLINE]
)
@pytest.mark.parametrize("pool", ["train", "test"])
def test_a_source_gives_images_and_labels_and_knows_its_content(name, pool):
    source = sources.source(name)
    images, labels = source.read(pool)
    assert images.dtype == labels.dtype == np.uint8
    assert images.shape == (len(labels), *source.image_shape[source.image_shape[0] == 1 :])
    assert source.identity(pool) == sources.source(name).identity(pool)
    assert len({source.identity(pool) for pool in ("train", "test")}) == 2


def test_a_source_of_ones_own_is_one_entry():
    sources.SOURCES["mirrored"] = lambda _: Mirrored()
    assert Params(**{**SMALL, "source": "mirrored"}).source == "mirrored"
    images = sources.source("mirrored").read("train")[0]
    assert (images[:, :, ::-1] == sources.source("digits").read("train")[0]).all()


class Mirrored(sources.Digits):
    """The digits in a mirror."""

    def read(self, pool):
        images, labels = super().read(pool)
        return images[:, :, ::-1], labels


# ---------------------------------------------------------------------------- every neuron


def network(output):
    dynamics = Dynamics((5.0, 100.0), output)
    made = create(
        dynamics, [3], [2], [4], np.random.default_rng(2), image_shape=(1, 8, 8), threshold=0.1
    )
    for layer in made.layers:
        layer.weight = layer.weight.abs()
    return made


def forward(output, images, backend="portable"):
    names = ("conv1", "dense1")
    clock = schedule(TASKS[0], "frame")
    return backends.forward(network(output), images, clock, raster=names, backend=backend)


def pictures():
    return np.random.default_rng(1).integers(0, 256, (3, 8, 8), np.uint8)


@pytest.mark.parametrize("output", [*neurons.OUTPUTS, "and"])
def test_a_neuron_spikes_only_when_driven_and_alike_in_every_batch(output):
    assert output in neurons.OUTPUTS
    images = pictures()
    activity = forward(output, images)
    assert activity.counts["conv1"].sum() > 0
    for name, raster in activity.rasters.items():
        assert set(raster.unique().tolist()) <= {0, 1}
        assert torch.equal(raster.sum(0).int(), activity.counts[name])
    dark = forward(output, np.zeros_like(images))
    assert all(count.sum() == 0 for count in dark.counts.values())
    for index in range(len(images)):
        alone = forward(output, images[index : index + 1])
        for name, count in activity.counts.items():
            assert torch.equal(alone.counts[name][0], count[index])


def test_a_neuron_of_ones_own_runs_where_it_can():
    auto = forward("and", pictures(), backend="auto")
    assert torch.equal(auto.counts["conv1"], forward("and", pictures()).counts["conv1"])
    with pytest.raises(backends.UserError, match="cannot run neurons 'and'"):
        forward("and", pictures(), backend="event")
    with pytest.raises(backends.UserError, match="has no surrogate gradient"):
        methods.create("hlop", Params(**{**SMALL, "output": "and"}), np.random.default_rng(0))


# --------------------------------------------------------------------------- every backend


@pytest.mark.parametrize("name", [*backends.BACKENDS, "chip"])
@pytest.mark.parametrize("output", ["or", "blend"])
def test_a_backend_gives_the_same_spikes_as_the_portable_one(name, output):
    try:
        found = forward(output, pictures(), backend=name)
    except backends.UserError as error:
        pytest.skip(str(error))
    wanted = forward(output, pictures())
    for layer in ("conv1", "dense1"):
        assert torch.equal(found.counts[layer].cpu(), wanted.counts[layer])
        assert torch.equal(found.crossings[layer].cpu(), wanted.crossings[layer])
        assert torch.equal(found.rasters[layer].cpu(), wanted.rasters[layer])
