"""From parameters to a deployed network, and whole test sets on the twin.

The network is trained under the ``pulse`` presentation (one chip has one clock) and, unless
``chip_aware`` is off, with weights and decays that the chip has.
"""

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from ltgate import metrics, train
from ltgate.data.tasks import schedule
from ltgate.errors import UserError
from ltgate.features import LARGE_BATCH, size
from ltgate.loihi import quantise, twin
from ltgate.loihi.quantise import Samples
from ltgate.loihi.quantnet import QuantNetwork
from ltgate.methods.base import SpikingLearner
from ltgate.params import Params
from ltgate.progress import track
from ltgate.train import Trial

CALIBRATION_IMAGES = 8  # of each task


def trial(params: Params, aware: bool = True) -> Trial:
    """The trial whose network is deployed; ``aware``: trained with the chip's numbers."""
    changed = params.with_(presentation="pulse", chip_aware=aware)
    return Trial(changed, "lt_gate", params.seeds[0])


@dataclass(frozen=True)
class Deployment:
    """A trained network in the chip's integers.

    ``net`` has the layers that the readout sees, ``samples`` are the training images on which the
    integers were calibrated, ``seconds`` is what quantising took.
    """

    trial: Trial
    learner: SpikingLearner
    net: QuantNetwork
    readout: quantise.Readout
    samples: list[Samples]
    seconds: float

    @property
    def coding(self) -> str:
        """How its input is sent: as ``chip_input`` says; events of streams ``direct``."""
        streamed = self.samples[0].images.ndim == 5
        return "direct" if streamed else self.trial.params.chip_input

    def drive(self, position: int) -> np.ndarray:
        """What a task's images are multiplied by at each step, [T]."""
        return schedule(self.trial.tasks[position], self.trial.params.presentation).drive

    def shown(self, position: int, split: str, limit: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """A task's images (or the first ``limit``) and their drive: what every backend takes."""
        return self.trial.open(position, split).images[: limit or None], self.drive(position)


def deploy(of: Trial) -> Deployment:
    """Quantise the trained network of a trial; calibrates on training images of every task."""
    p = of.params
    for name in ("root_counts", "standardise_counts", "pairs_of"):
        if value := getattr(p, name):
            given, needed = (str(x).lower() for x in (value, type(value)()))
            raise UserError(
                f"{name} = {given}: the chip's readout sums plain counts; set it to {needed}"
            )
    learner = of.restore(train.trained(of))
    samples = [
        Samples(of.open(i, "train").images[:CALIBRATION_IMAGES], schedule(task, p.presentation))
        for i, task in enumerate(of.tasks)
    ]
    start = time.perf_counter()
    net = quantise.quantise(learner.used, samples, p.chip_bits)
    sizes = {view: size(learner.network, view) for view in learner.views}
    weights = quantise.readout(learner.readout.weight, sizes, p.normalise_counts)
    return Deployment(of, learner, net, weights, samples, time.perf_counter() - start)


@dataclass
class Activity:
    """What one task's samples did on the chip; sums over all of them.

    ``steps`` are one sample's, ``accuracy`` is class-incremental, ``messages`` are the pixels or
    events sent; spikes and synaptic operations by layer.
    """

    task: str
    samples: int
    steps: int
    accuracy: float = 0.0
    messages: int = 0
    spikes: dict[str, int] = field(default_factory=dict)
    synops: dict[str, int] = field(default_factory=dict)


def evaluate(deployed: Deployment, position: int, split: str = "test", limit: int = 0) -> Activity:
    """Run a task's images (or the first ``limit`` of them) on the twin."""
    of, net = deployed.trial, deployed.net
    images, drive = of.open(position, split), deployed.drive(position)
    number = min(limit or len(images), len(images))
    made = Activity(of.tasks[position].name, number, len(drive))
    maps = {layer.name: np.zeros(layer.out_shape[1:], np.int64) for layer in net.layers}
    lit = np.zeros(net.layers[0].in_shape[1:], np.int64)
    scores = []
    for begin in track(range(0, number, LARGE_BATCH), label=f"twin: {made.task} ({split})"):
        pixels = images.images[begin : min(begin + LARGE_BATCH, number)]
        run = twin.forward(net, pixels, drive)
        scores.append(deployed.readout.scores(run.counts))
        lit += (pixels > 0).reshape(-1, *lit.shape).sum(0)
        for name, counts in run.counts.items():
            maps[name] += counts.sum((0, 1)).numpy()
    found = deployed.learner.of_labels(torch.from_numpy(np.concatenate(scores)))
    made.accuracy = metrics.accuracy(found, images.labels[:number], of.classes)
    sent = 1 if pixels.ndim == 5 else messages_per_pixel(drive, deployed.coding)
    made.messages = int(lit.sum()) * sent
    inputs = lit * sent
    for layer in net.layers:
        fan = layer.fan_out() * net.compartments * layer.out_shape[0]
        made.synops[layer.name] = int((inputs * fan).sum())
        inputs = maps[layer.name]
        made.spikes[layer.name] = int(inputs.sum())
    return made


def messages_per_pixel(drive: np.ndarray, coding: str) -> int:
    """Graded messages that a lit pixel sends in one sample.

    ``direct``: one per frame. ``differences``: one per change of the input current, which the first
    layer's neurons hold; clearing it is part of the reset between samples.
    """
    if coding == "direct":
        return int((drive > 0).sum())
    return int((np.diff(drive, prepend=0) != 0).sum())


def compare(aware: Deployment, done: list[Activity]) -> pd.DataFrame:
    """Test accuracy of float and integer networks, trained with and without the chip's numbers.

    ``aware``: the one trained with them; ``done``: what :func:`evaluate` gave for it on the test
    split. Columns: ``trained`` (full precision, chip-aware), ``runs_as`` (float, integers),
    ``task``, ``accuracy`` (class-incremental), ``images``, how many. All under ``pulse``.
    """
    of, rows = aware.trial, []
    plain = deploy(replace(of, params=of.params.with_(chip_aware=False)))
    rounded = [evaluate(plain, position) for position in range(len(of.tasks))]
    for trained, deployed, activities in (
        ("full precision", plain, rounded), ("chip-aware", aware, done)
    ):  # fmt: skip
        for position, task in enumerate(of.tasks):
            images = of.open(position, "test")
            scores = deployed.learner.scores(images).numpy()
            floats = metrics.accuracy(scores, images.labels, of.classes)
            integers = activities[position].accuracy
            for runs_as, accuracy in (("float", floats), ("integers", integers)):
                rows.append((trained, runs_as, task.name, accuracy, len(images)))
    return pd.DataFrame(rows, columns=["trained", "runs_as", "task", "accuracy", "images"])
