"""The code of docs/extend.md runs, and what it registers passes the tests that everything
registered has to pass (those of methods: ``test_methods.py``)."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_grid
import torch

import ltgate
from ltgate import backends, methods, neurons, paths, results, train
from ltgate.data import sources
from ltgate.data.streams import Streams
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.network import create
from ltgate.neurons import Dynamics
from ltgate.params import Params

SECTION = (Path(__file__).resolve().parent.parent / "docs/extend.md").read_text(encoding="utf-8")
TASKS = [
    TaskSpec(name="fast", classes=[0, 1, 2], frame_rate_hz=1000.0, duration_ms=10.0),
    TaskSpec(name="slow", classes=[7, 4], frame_rate_hz=50.0, duration_ms=120.0),
]
RULES = {
    "plasticity/readout_mine.py": """
from ltgate.declare import Group, Positive
from ltgate.plasticity.readout import READOUTS, Delta

class MyReadoutParameters(Group, since="0.2"):
    \"\"\"Readout of mine.\"\"\"

    readout_stride: Positive = 2.0
    \"\"\"rate of my readout\"\"\"

@READOUTS.add("mine")
class Mine(Delta):
    def __init__(self, inputs, classes, params):
        super().__init__(inputs, classes, params)
        self.rate, self.l2 = params.readout_stride, 0.0
""",
    "plasticity/gate_mine.py": """
from ltgate.declare import Group, Share
from ltgate.plasticity.gate import GATES, Gate

class MyGateParameters(Group, since="0.2"):
    \"\"\"Gate of mine.\"\"\"

    gate_share: Share = 0.25
    \"\"\"gamma of my gate\"\"\"

@GATES.add("mine")
class Mine(Gate):
    def gamma(self, now):
        return now * 0 + self.params.gate_share
""",
    "plasticity/projector_mine.py": """
from ltgate.declare import Group, Share
from ltgate.plasticity.projector import PROJECTORS, Projector

class MyProjectorParameters(Group, since="0.2", late=True):
    \"\"\"Projector of mine.\"\"\"

    projector_share: Share = 0.5
    \"\"\"share of an update that may act\"\"\"

@PROJECTORS.add("mine")
class Mine(Projector):
    def project(self, update, samples, inputs):
        return self.params.projector_share * update
""",
    "plasticity/filters_mine.py": """
from ltgate.declare import Group, Positive
from ltgate.plasticity.filters import FILTERS, Filters

class MyFilterParameters(Group, since="0.2"):
    \"\"\"Filters of mine.\"\"\"

    filters_scale: Positive = 0.5
    \"\"\"factor on drawn filters\"\"\"

@FILTERS.add("mine")
class Mine(Filters):
    def learn_layer(self, index, images, chunk):
        layer = self.network.layers[index]
        layer.weight = layer.weight * self.params.filters_scale
""",
    "methods/method_mine.py": """
from ltgate.declare import Count, Group
from ltgate.methods.base import METHODS, SpikingLearner

class MyMethodParameters(Group, since="0.2", late=True):
    \"\"\"Method mine.\"\"\"

    repeats: Count = 2
    \"\"\"how often my method learns from a batch\"\"\"

@METHODS.add("mine")
class Mine(SpikingLearner):
    preset = {"filters": "random", "projector": "none", "readout": "delta"}

    def learn(self, images, batch):
        for _ in range(self.params.repeats):
            super().learn(images, batch)
""",
}
USED = {  # how a file's rule is chosen, and its parameter at another value than its default
    "plasticity/readout_mine.py": (
        {"readout": "mine", "projector": "none"}, {"readout_stride": 3.0}
    ),
    "plasticity/gate_mine.py": ({"gate": "mine", "output": "blend"}, {"gate_share": 1.0}),
    "plasticity/projector_mine.py": (
        {"filters": "always", "projector": "mine", "readout": "rls"}, {"projector_share": 0.1}
    ),
    "plasticity/filters_mine.py": ({"filters": "mine"}, {"filters_scale": 1.0}),
    "methods/method_mine.py": ({"methods": ["mine"]}, {"repeats": 3}),
}  # fmt: skip
FILED = {"mnist", "events:", "shd:", "nmnist:"}  # sources whose files are not at hand here
OFFLINE = [name for name in sources.SOURCES if name not in FILED]
SMALL = {
    **small_grid.PARAMS, "name": "mine", "tasks": TASKS, "train_images": 16, "test_images": 8,
    "readout_layers": ["conv1", "conv2"], "calibration_iterations": 2,
}  # fmt: skip


def run_blocks(folder: Path) -> dict:
    """Execute the section's Python, block by block, in ``folder``."""
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL):
            exec(compile(block, "docs/extend.md", "exec"), names)
    return names


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A home in which a first run has left a checkpoint, and the page's code has run."""
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
    if isinstance(images, Streams):
        assert images.shape == source.stream_shape
        images = images.dense()[:, 0]
    assert images.dtype == labels.dtype == np.uint8
    assert images.shape == (len(labels), *source.image_shape[source.image_shape[0] == 1 :])
    assert source.identity(pool) == sources.source(name).identity(pool)
    assert len({source.identity(pool) for pool in ("train", "test")}) == 2


def test_a_source_of_ones_own_is_one_entry():
    sources.SOURCES["mirrored"] = Mirrored
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


# ------------------------------------------------- rules and methods, parameters and all: one file

TRAINS = """
import json, sys
from ltgate import paths, results, train
from ltgate.params import Params

small, used, before = json.loads(sys.argv[1])
assert Params(**small).hash == before, "earlier configurations keep their hashes"
for choice, other in used.values():
    hashes = set()
    for values in ({}, other):
        params = Params(**{**small, "methods": ["configured"], **choice, **values})
        train.run(params)
        rows = results.choose(results.load(paths.run("mine")), config=params.hash)
        hashes.add(params.hash)
        print(len(results.choose(rows, metric="accuracy", scenario="class", split="test")))
    assert len(hashes) == 2
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """How many test accuracies each rule's two trainings left, in a library with the new files."""
    copy = tmp_path_factory.mktemp("library")
    package = Path(ltgate.__file__).parent
    shutil.copytree(package, copy / "ltgate", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in RULES.items():
        (copy / "ltgate" / name).write_text(text)
    params = Params(**SMALL)
    given = json.dumps([params.model_dump(include=SMALL.keys()), USED, params.hash])
    places = {"LTGATE_HOME": str(copy), "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAINS, given], cwd=copy, env=os.environ | places,
        capture_output=True, text=True,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    numbers = [int(line) for line in done.stdout.splitlines() if line.isdigit()]
    return dict(zip(USED, zip(numbers[::2], numbers[1::2], strict=True), strict=True))


@pytest.mark.parametrize("file", RULES)
def test_a_rule_or_a_method_with_its_parameters_is_one_file(file, counted):
    assert counted[file] == (3, 3)
