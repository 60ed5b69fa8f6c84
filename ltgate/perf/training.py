"""Training: epochs with learning, stages of a batch, validation, checkpoints."""

import tempfile
import time
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ltgate import backends, checkpoint, features, methods, metrics
from ltgate.data.store import TaskImages
from ltgate.data.tasks import schedule
from ltgate.methods.base import SpikingLearner
from ltgate.params import Params
from ltgate.perf import fresh, loading, timing
from ltgate.perf.bench import EPOCH_BATCHES, TASKS, VALIDATION_IMAGES, Bench, Workload
from ltgate.perf.guide import Facts
from ltgate.plasticity import readout
from ltgate.stages import seconds_by_stage, stage


@dataclass
class Training:
    """Some batches of training, timed.

    Attributes:
        batches: How many.
        seconds: Wall time of all.
        early: Seconds of a batch over the first tenth of them (at least one).
        stages: One row a stage: ``stage``, ``seconds`` per batch, ``share`` of all the time. What
            no stage covers is the row ``rest``.
    """

    batches: int
    seconds: float
    early: float
    stages: pd.DataFrame

    @property
    def batch(self) -> float:
        """Seconds per batch."""
        return self.seconds / self.batches

    def stage(self, name: str, column: str) -> float:
        """A number of one stage."""
        return float(self.stages.set_index("stage").loc[name, column])


def learner(params: Params, workload: Workload) -> SpikingLearner:
    """The published method: every layer learns in every batch; at the workload's 5 % activity."""
    made = methods.create("lt_gate_published", params, np.random.default_rng(0))
    made.network.load_state_dict(workload.network.state_dict())
    return made


def train(params: Params, workload: Workload, images: TaskImages, number: int) -> Training:
    """Load and learn ``number`` batches of ``images`` (again and again, if they are fewer)."""
    pupil = learner(params, workload)
    flow = islice(loading.endless(images), number)
    ends = []
    with seconds_by_stage(workload.device) as sums:
        start = time.perf_counter()
        for _ in range(number):
            with stage("loading"):
                batch = next(flow)
            pupil.learn(images, batch)
            ends.append(time.perf_counter() - start)
    rows = [*sums.items(), ("rest", ends[-1] - sum(sums.values()))]
    frame = pd.DataFrame(rows, columns=["stage", "seconds"])
    frame = frame.assign(share=frame["seconds"] / ends[-1], seconds=frame["seconds"] / number)
    first = max(1, number // 10)
    return Training(number, ends[-1], ends[first - 1] / first, frame)


@cache
def trained(bench: Bench, task: str) -> Training:
    """Training on a task: a few batches, or in ``full`` an epoch; measured once a bench."""
    number = bench.extent.batches or EPOCH_BATCHES[task]
    with timing.threads(bench.threads):
        workload, images = bench.workloads[task], bench.images(task)
        train(bench.published, workload, images, 1)  # what only a first batch does
        return train(bench.published, workload, images, number)


def stage_table(bench: Bench) -> pd.DataFrame:
    """Stages of a training batch: ``task``, ``stage``, ``seconds`` per batch, ``share``."""
    frames = [trained(bench, task).stages.assign(task=task) for task in TASKS]
    return pd.concat(frames, ignore_index=True)[["task", "stage", "seconds", "share"]]


def epochs(bench: Bench) -> Facts:
    """An epoch of MNIST's training split with every layer learning, and parts of its batches."""
    facts: Facts = {}
    for task, number in EPOCH_BATCHES.items():
        found = trained(bench, task)
        full = found.batches == number
        facts |= {
            f"{task}_minutes": found.batch * number / 60,
            f"{task}_batches": number,
            f"{task}_trained": found.batches,
            f"{task}_ms": found.batch * 1e3,
            f"{task}_how": _how(full, f"{found.batches} batches"),
        }
    fast = trained(bench, "fast")
    return {
        **facts,
        "weights_ms": fast.stage("weight update", "seconds") * 1e3,
        "loading": fast.stage("loading", "share"),
        "first": max(1, fast.batches // 10),
        "early": fast.early / fast.batch,
    }


def _how(full: bool, measured: str) -> str:
    return "measured in full" if full else f"extrapolated from {measured}"


def validation(bench: Bench) -> Facts:
    """Seconds of the accuracy on the fast task's validation images."""
    images = bench.images("fast", "validation")
    number = bench.extent.validation or VALIDATION_IMAGES
    pupil = learner(bench.published, bench.workloads["fast"])
    with timing.threads(bench.threads):
        taken = timing.seconds(lambda: validate(pupil, images, number), bench.device)
    return {
        "seconds": taken / number * VALIDATION_IMAGES,
        "images": VALIDATION_IMAGES,
        "how": _how(number == VALIDATION_IMAGES, f"{number} images"),
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


def checkpoints(bench: Bench) -> Facts:
    """Saving the published learner's whole state, its size, and what is left of ten checkpoints."""
    state = learner(bench.published, bench.workloads["fast"]).state()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "state.safetensors"
        save = {"save": lambda: checkpoint.save(path, *state)}
        taken = bench.times(save)["save"]
        for number in range(10):
            checkpoint.save(folder / f"last-{number}.safetensors", {"a": torch.zeros(1)}, {})
            checkpoint.keep(folder, "last-*.safetensors", bench.params.keep_checkpoints)
        left = len(list(folder.glob("last-*")))
        return {"seconds": taken, "megabytes": path.stat().st_size / 1e6, "left": left}


def cpu_limits(bench: Bench) -> Facts:
    """Seconds per batch: training, reading it without and with many loader processes; and of a
    process's first and second pass."""
    images, many = bench.images("fast"), max(bench.extent.workers)
    alone, crowd = (
        loading.milliseconds(images, bench.extent.load, workers, 1) / 1e3 for workers in (0, many)
    )
    small = bench.workloads["slow"].cut(images=1)
    first, later = fresh.twice(timing.seconds, small.update)
    batch = trained(bench, "fast").batch
    return {
        "alone": alone, "crowd": crowd, "many": many, "batch": batch, "first": first,
        "later": later,
    }  # fmt: skip
