"""Rows on training: epochs with learning, stages of a batch, validation, checkpoints."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ltgate import backends, checkpoint, features, methods, metrics
from ltgate.data.store import Batch, TaskImages, open_task
from ltgate.data.tasks import schedule
from ltgate.methods.base import SpikingLearner
from ltgate.params import Params
from ltgate.perf import timing
from ltgate.perf.bench import EPOCH_BATCHES, TASKS, VALIDATION_IMAGES, Bench, Workload
from ltgate.perf.guide import Measured, measures
from ltgate.perf.loading import endless
from ltgate.perf.stages import Stages
from ltgate.plasticity import readout


@dataclass
class Training:
    """Some batches of training, timed.

    Attributes:
        batches: How many.
        seconds: Wall time of all.
        stages: One row a stage, see :meth:`ltgate.perf.stages.Stages.table`.
        early: Seconds of learning per batch, over the first tenth of the batches (at least one).
    """

    batches: int
    seconds: float
    stages: pd.DataFrame
    early: float


def learner(params: Params, workload: Workload) -> SpikingLearner:
    """The published method: every layer learns in every batch; at the workload's 5 % activity."""
    made = methods.create("lt_gate_published", params, np.random.default_rng(0))
    made.network.load(workload.network.state())
    return made


def train(
    params: Params, workload: Workload, images: TaskImages, number: int, workers: int = 0
) -> Training:
    """Load and learn ``number`` batches of ``images`` (again and again, if they are fewer)."""
    pupil = learner(params, workload)
    stages = Stages(workload.device)
    stages.attach(pupil, "_forward", "forward pass and local update")
    stages.attach(pupil, "_update", "weight update")
    stages.attach(pupil.readout, "learn", "readout")
    flow: Iterator[Batch] = islice(endless(images, workers), number)
    first, early = max(1, number // 10), 0.0
    clock = Stages(workload.device)
    with clock("all"):
        for count, batch in enumerate(stages.each(flow, "loading"), 1):
            with clock("learning"):
                pupil.learn(images, batch)
            if count == first:
                early = clock.seconds["learning"] / count
    seconds = clock.seconds["all"]
    return Training(number, seconds, stages.table(seconds, number), early)


def batches_of(params: Params, workload: Workload, number: int) -> None:
    """Train ``number`` fast batches, in a process that has to open the data first."""
    train(params, workload, open_task(params, TASKS["fast"], "train", 0), number)


def trained(bench: Bench, task: str) -> Training:
    """Training on a task: a few batches, or in ``full`` an epoch; measured once a bench."""

    def measure() -> Training:
        number = bench.sizes.batches or EPOCH_BATCHES[task]
        with timing.threads(bench.threads):
            workload, images = bench.workloads[task], bench.images(task)
            train(bench.published, workload, images, 1)  # what only a first batch does
            return train(bench.published, workload, images, number)

    return bench.kept(f"training {task}", measure)


def stages(bench: Bench) -> pd.DataFrame:
    """Stages of a training batch: ``task``, ``stage``, ``seconds`` per batch, ``share``."""
    frames = [trained(bench, task).stages.assign(task=task) for task in TASKS]
    return pd.concat(frames, ignore_index=True)[["task", "stage", "seconds", "share"]]


@measures
def epochs(bench: Bench) -> dict[str, Measured]:
    """An epoch of MNIST's training split with every layer learning; the weight update alone."""
    rows = {}
    for task in TASKS:
        found = trained(bench, task)
        minutes = found.seconds / found.batches * EPOCH_BATCHES[task] / 60
        number = EPOCH_BATCHES[task]
        how = "measured in full" if found.batches == number else (
            f"extrapolated from {found.batches} batches"
        )  # fmt: skip
        note = (
            f"{how}: {number} batches of 32 with loading, local update of all layers and readout, "
            f"{found.seconds / found.batches * 1e3:.0f} ms each; rate of learning 1e-5, so that "
            "the activity stays at 5 %"
        )
        rows[f"runtime.epoch.{task}"] = Measured(minutes, note)
    table = trained(bench, "fast").stages.set_index("stage")
    rows["runtime.learning.weights"] = Measured(
        float(table.loc["weight update", "seconds"]) * 1e3,
        "gates, projector and bounded step of all layers, in training on fast batches",
    )
    return rows


@measures
def validation(bench: Bench) -> dict[str, Measured]:
    """Accuracy on the fast task's validation images: forward passes, readout, metric."""
    images = bench.images("fast", "validation")
    number = bench.sizes.validation or VALIDATION_IMAGES
    pupil = learner(bench.published, bench.workloads["fast"])
    with timing.threads(bench.threads):
        taken = timing.seconds(lambda: validate(pupil, images, number), bench.device)
    full = number == VALIDATION_IMAGES
    how = "measured in full" if full else f"extrapolated from {number} images"
    return {
        "runtime.epoch.validation": Measured(
            taken / number * VALIDATION_IMAGES,
            f"{how}: {VALIDATION_IMAGES:,} images of the fast task in large batches",
        )
    }


def validate(pupil: SpikingLearner, images: TaskImages, number: int) -> float:
    """Accuracy on ``number`` images (repeated when there are fewer), without any cache."""
    layer = pupil.network.names[-1]
    rows = np.arange(number) % len(images)
    scores = []
    for part in np.array_split(rows, -(-number // features.LARGE_BATCH)):
        activity = backends.forward(
            pupil.network, images.images[part], schedule(images.task, "frame"),
            backend=pupil.params.backend, device=pupil.device,
        )  # fmt: skip
        inputs = readout.features([activity.counts[layer].cpu()])
        scores.append(inputs @ pupil.readout.weight)
    return metrics.accuracy(torch.cat(scores).numpy(), images.labels[rows])


@measures
def checkpoints(bench: Bench) -> dict[str, Measured]:
    """Saving the published learner's whole state, and its size."""
    state = learner(bench.published, bench.workloads["fast"]).state()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save = {"save": lambda: checkpoint.save(path, *state)}
        taken = timing.interleaved(save, bench.sizes.repeats)["save"]
        megabytes = path.stat().st_size / 1e6
    return {
        "runtime.epoch.checkpoint": Measured(taken, "written whole and synced to the disk"),
        "scaling.memory.checkpoint": Measured(
            megabytes,
            "lt_gate_published; a learner with the full projector keeps more, see state_bytes in "
            "table_main",
        ),
    }
