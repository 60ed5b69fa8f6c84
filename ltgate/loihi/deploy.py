"""From parameters to a deployed network, and whole test sets on the twin.

The network is trained under the ``pulse`` presentation (one chip has one clock) and, unless
``chip_aware`` is off, with weights and decays that the chip has.
"""

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from ltgate import checkpoint, metrics, train
from ltgate.data.tasks import schedule
from ltgate.errors import UserError
from ltgate.features import LARGE_BATCH, size
from ltgate.loihi import quant_readout, quantise, twin
from ltgate.loihi.quantise import Samples
from ltgate.loihi.quantnet import QuantNetwork
from ltgate.methods.base import SpikingLearner
from ltgate.params import Params
from ltgate.progress import track
from ltgate.train import Trial

METHOD = "lt_gate"
CALIBRATION_IMAGES = 8  # of each task


def trial(params: Params, aware: bool = True, method: str = METHOD) -> Trial:
    """The trial whose network is deployed; ``aware``: trained with the chip's numbers."""
    changed = params.with_(presentation="pulse", chip_aware=aware)
    return Trial(changed, method, params.seeds[0])


def trained(of: Trial) -> SpikingLearner:
    """The learner after the last task; trains it first if there is no snapshot."""
    last = f"task{len(of.tasks) - 1}.safetensors"
    if not (of.folder / last).exists():
        torch.set_num_threads(of.params.threads or torch.get_num_threads())
        train.train(of)
        checkpoint.keep(of.folder, "last-*.safetensors", 0)
    return of.restore(last)


@dataclass(frozen=True)
class Deployment:
    """A trained network in the chip's integers.

    Attributes:
        trial: What was trained.
        learner: The float network and readout.
        net: The layers that the readout sees, in integers.
        readout: Its integer weights.
        samples: Training images that the integers were calibrated on.
        seconds: What quantising took.
    """

    trial: Trial
    learner: SpikingLearner
    net: QuantNetwork
    readout: quant_readout.QuantReadout
    samples: list[Samples]
    seconds: float


def deploy(of: Trial) -> Deployment:
    """Quantise the trained network of a trial; calibrates on training images of every task."""
    learner = trained(of)
    p = of.params
    if p.root_counts:
        raise UserError("root_counts = true: the chip's readout sums plain counts; set it to false")
    samples = [
        Samples(of.open(i, "train").images[:CALIBRATION_IMAGES], schedule(task, p.presentation))
        for i, task in enumerate(of.tasks)
    ]
    views = learner.views
    start = time.perf_counter()
    net = quantise.quantise(learner.used, samples, p.chip_bits)
    sizes = [size(learner.network, view) for view in views]
    weights = quant_readout.quantise(learner.readout.weight, views, sizes, p.normalise_counts)
    seconds = time.perf_counter() - start
    return Deployment(of, learner, net, weights, samples, seconds)


@dataclass
class Activity:
    """What one task's samples did on the chip; sums over all of them.

    Attributes:
        task: Its name.
        samples: How many.
        steps: Of one sample.
        accuracy: Class-incremental.
        messages: Pixels sent.
        spikes: By layer.
        synops: Synaptic operations in each layer.
        seconds: What the twin took.
    """

    task: str
    samples: int
    steps: int
    accuracy: float = 0.0
    messages: int = 0
    spikes: dict[str, int] = field(default_factory=dict)
    synops: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def evaluate(deployed: Deployment, position: int, split: str = "test", limit: int = 0) -> Activity:
    """Run a task's images (or the first ``limit`` of them) on the twin."""
    of, net = deployed.trial, deployed.net
    images = of.open(position, split)
    steps = schedule(of.tasks[position], of.params.presentation)
    number = min(limit, len(images)) if limit else len(images)
    made = Activity(of.tasks[position].name, number, len(steps))
    maps = {layer.name: np.zeros(layer.out_shape[1:], np.int64) for layer in net.layers}
    lit = np.zeros(net.layers[0].in_shape[1:], np.int64)
    scores = []
    start = time.perf_counter()
    for begin in track(range(0, number, LARGE_BATCH), label=f"twin: {made.task} ({split})"):
        pixels = images.images[begin : min(begin + LARGE_BATCH, number)]
        run = twin.forward(net, pixels, steps.drive)
        scores.append(deployed.readout.scores(*deployed.readout.sums(run.counts)))
        lit += (pixels > 0).reshape(-1, *lit.shape).sum(0)
        for name, counts in run.counts.items():
            maps[name] += counts.sum((0, 1)).numpy()
    made.seconds = time.perf_counter() - start
    every = [label for task in of.tasks for label in task.classes]
    made.accuracy = metrics.accuracy(np.concatenate(scores), images.labels[:number], every)
    sent = messages_per_pixel(steps.drive, of.params.chip_input)
    made.messages = int(lit.sum()) * sent
    inputs = lit * sent
    for layer in net.layers:
        fan = layer.fan_out() * net.compartments * layer.out_shape[0]
        made.synops[layer.name] = int((inputs * fan).sum())
        inputs = maps[layer.name]
        made.spikes[layer.name] = int(inputs.sum())
    return made


def recoded(deployed: Deployment, position: int, done: Activity, coding: str) -> Activity:
    """The same activity with the input sent in another way: only the first layer's counts change.

    ``done``: of :func:`evaluate` for the task at ``position``.
    """
    of = deployed.trial
    drive = schedule(of.tasks[position], of.params.presentation).drive
    before, after = (messages_per_pixel(drive, c) for c in (of.params.chip_input, coding))
    first = deployed.net.names[0]
    return replace(
        done,
        messages=done.messages // before * after,
        synops={**done.synops, first: done.synops[first] // before * after},
    )


def messages_per_pixel(drive: np.ndarray, coding: str) -> int:
    """Graded messages that a lit pixel sends in one sample.

    ``direct``: one per frame. ``differences``: one per change of the input current, which the first
    layer's neurons hold; clearing it is part of the reset between samples.
    """
    if coding == "direct":
        return int((drive > 0).sum())
    return int((np.diff(drive, prepend=0) != 0).sum())


def compare(
    params: Params, done: list[Activity] | None = None, method: str = METHOD
) -> pd.DataFrame:
    """Test accuracy of float and integer networks, trained with and without the chip's numbers.

    ``done``: what :func:`evaluate` gave for the chip-aware one on the test split, if it is there.
    Columns: ``trained`` (full precision, chip-aware), ``runs_as`` (float, integers), ``task``,
    ``accuracy`` (class-incremental), ``images``, how many. All under ``pulse``.
    """
    rows = []
    for aware in (False, True):
        deployed = deploy(trial(params, aware, method))
        name = "chip-aware" if aware else "full precision"
        every = [label for task in deployed.trial.tasks for label in task.classes]
        for position, task in enumerate(deployed.trial.tasks):
            images = deployed.trial.open(position, "test")
            scores = deployed.learner.scores(images).numpy()
            ours = done[position] if aware and done else evaluate(deployed, position)
            found = {
                "float": metrics.accuracy(scores, images.labels, every),
                "integers": ours.accuracy,
            }
            for kind, accuracy in found.items():
                rows.append(
                    {
                        "trained": name, "runs_as": kind, "task": task.name,
                        "accuracy": accuracy, "images": len(images),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)
