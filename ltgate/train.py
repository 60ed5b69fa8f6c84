"""The continual loop: any method, any list of tasks, resumable at every checkpoint.

A trial is one method, one seed and one sequence of tasks. Training sees training and validation
images only; a snapshot of the learner is kept after every task. When the last task is learned, the
final evaluation opens the test images and fills R from the snapshots.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator

import ltgate
from ltgate import backends, checkpoint, done, memory, methods, paths, provenance, results
from ltgate.data.sources import own_files
from ltgate.data.store import Batch, TaskImages, at_rate, batches, open_task
from ltgate.data.tasks import TaskSpec, schedule
from ltgate.declare import Count, Distinct, Group, Name, Positive, Seed, Some, Whole, nearest
from ltgate.errors import NotFinite
from ltgate.files import lock
from ltgate.methods.base import SpikingLearner
from ltgate.metrics import accuracy
from ltgate.processes import on_threads, side_by_side
from ltgate.progress import track
from ltgate.registry import extended

if TYPE_CHECKING:
    from ltgate.params import Params

LEARNER, ORDER = 0, 1  # streams of random numbers of one seed: the learner's, the batches' order


class RunParameters(Group, compute=True):
    """Run."""

    name: Name = "smoke"
    """name of the output folders"""
    seeds: Annotated[list[Seed], Some, Distinct] = [0]
    """one repetition per seed"""
    methods: Annotated[list[str], Some, Distinct] = [
        "lt_gate", "random_features", "sequential", "joint", "lt_gate_published"
    ]  # fmt: skip
    """learning methods to compare, by the names of ltgate.methods"""
    control: bool = True
    """also run all tasks at the first task's frame rate and duration"""
    keep_checkpoints: Count = 2
    """checkpoints kept per method and seed"""
    checkpoint_every: Count = 500
    """batches between checkpoints"""

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, chosen: list[str]) -> list[str]:
        known = methods.names()
        for method in chosen:
            if method not in known:
                hint = nearest(method, known)
                raise ValueError(f"{method!r} is no method{hint}; allowed: {', '.join(known)}")
        return chosen


class TrainingParameters(Group, late=True):
    """Training."""

    epochs: Count = 1
    """passes over each task"""
    batch_size: Whole = 32
    """images per batch; 0 = as many as fit on this machine, up to 256: that number then counts as
    given"""
    curve_points: Annotated[int, Field(ge=1, le=10_000)] = 5
    """points of the learning curve per task, on validation images"""

    @model_validator(mode="after")
    def _automatic_batch_size(self) -> Self:
        """A result depends on the size of batches: the hash and every record must tell it."""
        if self.batch_size == 0:
            self.__dict__["batch_size"] = memory.batch_size(self)  # the model is frozen
        return self


class RateParameters(Group, since="0.2"):
    """Speeds that are tested."""

    other_rates: Annotated[list[Positive], Distinct] = []
    """frame rates (Hz) at which tasks that share their classes are tested too, after each task"""


@dataclass(frozen=True)
class Trial:
    """One method, one seed, one sequence.

    Attributes:
        params: The validated parameters.
        method: A name in :func:`ltgate.methods.names`.
        seed: Seeds the split, the weights and the order of batches.
        cue: False for the control, in which all tasks run at the first one's rate and duration.
        curves: Whether learning curves are measured; nothing that is learned depends on them.
    """

    params: "Params"
    method: str
    seed: int
    cue: bool = True
    curves: bool = True

    @property
    def tasks(self) -> list[TaskSpec]:
        """The sequence; in the control every task has the first one's rate and duration."""
        first = self.params.tasks[0]
        timing = {"frame_rate_hz": first.frame_rate_hz, "duration_ms": first.duration_ms}
        if self.cue:
            return list(self.params.tasks)
        return [TaskSpec(**{**task.model_dump(), **timing}) for task in self.params.tasks]

    @property
    def classes(self) -> list[int]:
        """All classes of the sequence, in its order."""
        return list(dict.fromkeys(label for task in self.tasks for label in task.classes))

    @property
    def shares_classes(self) -> bool:
        """Whether several tasks have the same classes: the scenario is ``domain``."""
        return len(self.tasks) > 1 and set(self.tasks[0].classes) == set(self.tasks[1].classes)

    @property
    def scenarios(self) -> tuple[str, ...]:
        """The scenarios of van de Ven & Tolias 2019 under which it is evaluated."""
        return ("domain",) if self.shares_classes else ("class", "task")

    @property
    def sequence(self) -> str:
        """Names of the tasks in order, ``fast>slow``."""
        return ">".join(task.name for task in self.params.tasks)

    @cached_property
    def train_images(self) -> int:
        """Training images of all tasks."""
        return sum(len(self.open(position, "train")) for position in range(len(self.tasks)))

    @property
    def key(self) -> str:
        """Names the trial's files."""
        return key(self.params.hash, self.method, self.seed, self.cue)

    @property
    def run_folder(self) -> Path:
        """The folder of its run, where its rows are."""
        return paths.run(self.params.name)

    @property
    def folder(self) -> Path:
        """Where its checkpoints lie."""
        own = self.key if self.curves else f"{self.key}-no-curves"
        return self.run_folder / "checkpoints" / own

    @property
    def finished(self) -> bool:
        """Whether its result rows are there."""
        return results.exists(self.run_folder, self.key)

    def open(self, position: int, split: str) -> TaskImages:
        """Images of the task at ``position``."""
        return open_task(self.params, self.tasks[position], split, self.seed)

    def learner(self) -> SpikingLearner:
        """A fresh learner of this trial."""
        generator = np.random.default_rng([self.seed, LEARNER])
        return methods.create(self.method, self.params, generator)

    @property
    def named(self) -> dict[str, Any]:
        """What it is, beside its parameters."""
        return {"method": self.method, "seed": self.seed, "cue": self.cue}

    def made(self) -> dict[str, Any]:
        """What it is learned from, as it is now (:func:`ltgate.done.record`)."""
        return done.record(own_files(self.params, "train"))

    def origin(self, made: dict[str, Any], split: str, **more: Any) -> dict[str, Any]:
        """All that it takes to get the trial's rows, some of them of ``split``, again.

        ``made`` is what :meth:`made` gave before the trial was learned.
        """
        tests = own_files(self.params, "test") if split == "test" else {}
        inputs = {**made["inputs"], **tests}
        return {**provenance.describe(self.params, **self.named, **more), **made, "inputs": inputs}

    def has(self, position: int) -> bool:
        """Whether the snapshot after the task at ``position`` is done (:mod:`ltgate.done`)."""
        return not checkpoint.changed(self.folder / f"task{position}.safetensors")

    def restore(self, file: str) -> SpikingLearner:
        """The learner that answers as it did when the snapshot ``file`` was written."""
        learner = self.learner()
        checkpoint.restore(self.folder / file, learner.load_snapshot)
        return learner

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from this trial for a block; wait for the one that is at it."""
        return lock(self.run_folder / "locks" / f"{self.key}.lock")


def key(configuration: str, method: str, seed: int, cue: bool = True) -> str:
    """Names the files of a trial; ``configuration`` is the hash of its parameters."""
    return f"{configuration}-{method}-{'cue' if cue else 'control'}-seed{seed}"


def cues(params: "Params") -> list[bool]:
    """With the timescale cue, and without it (the control) where that is asked for."""
    return [True, False] if params.control and len(params.tasks) > 1 else [True]


def trials(params: "Params") -> list[Trial]:
    """Every trial that the parameters ask for, in the order in which they begin.

    Neighbours differ in their seeds: trials of one seed wait for filters that they share.
    """
    return [
        Trial(params, method, seed, cue)
        for cue in cues(params)
        for method in params.methods
        for seed in params.seeds
    ]


def run(params: "Params") -> None:
    """Run all trials that have no result yet, side by side."""
    left = [trial for trial in trials(params) if not trial.finished]
    side_by_side(run_trial, left, at_once(left), "trials")


def learn(chosen: Sequence[Trial], positions: int | None = None) -> list[dict]:
    """:func:`train` of several trials, side by side; the rows of all."""
    function = partial(train, positions=positions)
    return list(itertools.chain(*side_by_side(function, chosen, at_once(chosen), "trials")))


def at_once(chosen: Sequence[Trial]) -> int:
    """How many of these trials run side by side: as many as cores and memory allow.

    One after the other where a GPU is used, or a rule that only this process knows.
    """
    if len(chosen) < 2 or extended():
        return 1
    p = chosen[0].params
    cores = p.threads or torch.get_num_threads()
    if cores == 1 or backends.device(p.device) != "cpu":
        return 1
    of_each_method = {trial.method: trial for trial in chosen}.values()
    needed = max(memory.needed(_parts(trial)) for trial in of_each_method)
    return max(1, min(cores, len(chosen), memory.available() // needed))


def run_trial(trial: Trial) -> None:
    """Train, evaluate and write the trial's result rows; nothing is done twice."""
    with trial.hold():
        if not trial.finished:  # another process may have done it meanwhile
            made = trial.made()
            curves, origin = _train(trial, None, made), trial.origin(made, "test")
            results.write(trial.run_folder, trial.key, curves + evaluate(trial), origin)
            checkpoint.keep(trial.folder, "last-*.safetensors", 0)


def train(trial: Trial, positions: int | None = None) -> list[dict]:
    """Learn the sequence (or its first ``positions`` tasks), from the last checkpoint if any.

    Leaves a snapshot ``task<i>.safetensors`` after every task, and on the way the whole state as
    ``last-*.safetensors``, which go when the trial has its result. Returns the validation rows.
    """
    with trial.hold():
        if trial.finished:
            return _rows(trial, positions)
        return _train(trial, positions, trial.made())


def trained(trial: Trial) -> str:
    """The name of the snapshot after the last task; trains if it is not done."""
    last = len(trial.tasks) - 1
    if not trial.has(last):
        train(trial)
        checkpoint.keep(trial.folder, "last-*.safetensors", 0)
    return f"task{last}.safetensors"


@on_threads(1)
def _train(trial: Trial, positions: int | None, made: dict[str, Any]) -> list[dict]:
    """:func:`train` of a trial that is held and has no result; ``made``: see :meth:`Trial.made`."""
    p = trial.params
    memory.check(_parts(trial))  # said before the work begins
    learner = trial.learner()
    rows, at = [], {"position": 0, "done": 0, "before": 0}  # batches of this task, and before it
    for path in sorted(trial.folder.glob("last-*.safetensors"), reverse=True):
        if kept := checkpoint.kept(path):
            learner.load(*kept)
            rows, at = kept[1]["rows"], kept[1]["at"]
            break

    for position in range(at["position"], positions or len(trial.tasks)):
        images = [trial.open(index, "train") for index in learner.curriculum(position)]
        task, before, learned = trial.tasks[position].name, at["before"], at["done"]
        if learned == 0:
            learner.begin_task(position, images[-1])
            rows.append(row(trial, "train", "class", before, task, "boundary", float(position)))
        total = p.epochs * sum(-(-len(source) // p.batch_size) for source in images)
        points = np.linspace(0, total, p.curve_points + 1).round().astype(int)[1:]
        stream = _stream(trial, images, position)
        label = f"{trial.method}, seed {trial.seed}: {task}"
        for number, (source, batch) in enumerate(track(stream, total, label), 1):
            if number <= learned:
                continue
            try:
                learner.learn(source, batch)
                if trial.curves and number in points:
                    rows += _validate(trial, learner, position, before + number)
            except NotFinite as error:
                raise NotFinite(f"{label}, batch {number} of {total}: {error}") from error
            if number % p.checkpoint_every == 0 and number < total:
                at = {"position": position, "done": number, "before": before}
                _save(trial, learner.state(), rows, at, made)
        learner.end_task(position)
        tensors, plain = learner.snapshot()
        state = learner.state()
        about = {"parameters": p.model_dump(), **trial.named, "task": task}
        plain |= {"about": about | {"version": ltgate.__version__}}
        plain |= {"state_bytes": sum(tensor.nbytes for tensor in state[0].values())}
        checkpoint.save(trial.folder / f"task{position}.safetensors", tensors, plain, made)
        at = {"position": position + 1, "done": 0, "before": before + total}
        _save(trial, state, rows, at, made)
    return rows


def measure(trial: Trial, split: str) -> list[dict]:
    """All rows of a trial of a search but those of learning curves, measured on ``split``.

    Nothing of it stays on disk but where a run has the trial too: its notebooks need the snapshots.
    """
    with trial.hold():
        known = trial.finished
        if known:
            rows = [row for row in _rows(trial, None) if row["metric"] != "curve_accuracy"]
        else:
            trial = replace(trial, curves=False)
            rows = _train(trial, None, trial.made())
        rows += evaluate(trial, split)
        if not known:
            checkpoint.keep(trial.folder, "*.safetensors", 0)
            if trial.folder.exists():
                trial.folder.rmdir()
    return rows


@on_threads(1)
def evaluate(trial: Trial, split: str = "test") -> list[dict]:
    """R on the test images, from the snapshots; the only place that opens them.

    A search that must not see them asks for the ``validation`` images instead.
    """
    rows: list[dict] = []
    for step in range(len(trial.tasks)):
        learner = trial.restore(f"task{step}.safetensors")
        tested = [trial.open(position, split) for position in range(step + 1)]
        for images in tested:
            rows += _accuracies(trial, learner, images, step)
        for rate in trial.params.other_rates if trial.shares_classes else ():
            rows += rows_at(trial, learner, trial.tasks[0], step, rate, split)
    _, plain = checkpoint.load(trial.folder / f"task{step}.safetensors")
    spikes = [sum(learner.spikes(images).values()) for images in tested]
    costs = {"spikes_per_sample": np.mean(spikes), "state_bytes": plain["state_bytes"]}
    if not trial.shares_classes:
        told = float(np.mean([_task_told(trial, learner, images) for images in tested]))
        rows.append(row(trial, split, "class", step, "all", "task_told", told))
    return rows + [
        row(trial, split, scenario, step, "all", metric, float(value))
        for metric, value in costs.items()
        for scenario in trial.scenarios
    ]


def rows_at(
    trial: Trial, learner: SpikingLearner, task: TaskSpec, step: int, rate: float, split: str
) -> list[dict]:
    """Accuracy and spikes on a task's images at another frame rate (Hz), learned or not.

    Metrics ``accuracy/200Hz/frame`` and so on, with the learner's presentation.
    """
    images = open_task(trial.params, at_rate(trial.params, task, rate), split, trial.seed)
    condition = f"{rate:g}Hz/{learner.params.presentation}"
    spikes = sum(learner.spikes(images).values())
    scenario = trial.scenarios[0]
    return [
        *_accuracies(trial, learner, images, step, f"accuracy/{condition}")[:1],
        row(trial, split, scenario, step, task.name, f"spikes_per_sample/{condition}", spikes),
    ]


def frame(rows: list[dict]) -> pd.DataFrame:
    """Rows as the tidy frame that :func:`ltgate.results.load` gives."""
    return pd.DataFrame(rows, columns=list(results.COLUMNS))


def _rows(trial: Trial, positions: int | None) -> list[dict]:
    """The rows that training left, of the first ``positions`` tasks."""
    rows = results.load(trial.run_folder, trial.key)
    rows = rows[rows["split"] != "test"]
    if positions is not None:
        later = rows[(rows["metric"] == "boundary") & (rows["value"] >= positions)]
        rows = rows.drop(later.index)
        rows = rows[rows["step"] <= later["step"].min()] if len(later) else rows
    return rows.to_dict("records")


def _stream(
    trial: Trial, sources: list[TaskImages], position: int
) -> Iterator[tuple[TaskImages, Batch]]:
    """Batches of one or several tasks, shuffled; the order follows from seed and position alone."""
    p = trial.params
    for epoch in range(p.epochs):
        order = np.random.default_rng([trial.seed, ORDER, position, epoch])
        flows = [
            batches(s, p.batch_size, order.spawn(1)[0], p.workers, p.prefetch) for s in sources
        ]
        lengths = [-(-len(source) // p.batch_size) for source in sources]
        for index in order.permutation(np.repeat(np.arange(len(sources)), lengths)):
            yield sources[index], next(flows[index])


def _validate(trial: Trial, learner: SpikingLearner, position: int, step: int) -> list[dict]:
    """Points of the learning curve: validation accuracy on every task met so far."""
    rows = []
    for index in range(position + 1):
        images = trial.open(index, "validation")
        rows += _accuracies(trial, learner, images, step, "curve_accuracy")
    return rows


def _accuracies(
    trial: Trial, learner: SpikingLearner, images: TaskImages, step: int, metric: str = "accuracy"
) -> list[dict]:
    """Accuracy on ``images`` among all classes of the sequence, and among their task's own."""
    scores = learner.scores(images)
    if not scores.isfinite().all():
        raise NotFinite(f"readout: NaN or infinity in its scores on {images.task.name}")
    found = []
    for scenario in trial.scenarios:
        among = images.task.classes if scenario == "task" else trial.classes
        value = accuracy(scores.numpy(), images.labels, among)
        found.append(row(trial, images.split, scenario, step, images.task.name, metric, value))
    return found


def _task_told(trial: Trial, learner: SpikingLearner, images: TaskImages) -> float:
    """Share of the images whose task is told right: the highest score is of a class of theirs."""
    every = [label for task in trial.tasks for label in task.classes]
    chosen = np.array(every)[learner.scores(images).numpy()[:, every].argmax(1)]
    return float(np.isin(chosen, images.task.classes).mean())


def row(
    trial: Trial, split: str, scenario: str, step: int, task: str, metric: str, value: float
) -> dict:
    """A result row of a trial, as :mod:`ltgate.results` wants it."""
    return {
        "config": trial.params.hash,
        "method": trial.method,
        "seed": trial.seed,
        "sequence": trial.sequence,
        "cue": "yes" if trial.cue else "no",
        "train_images": trial.train_images,
        "split": split,
        "scenario": scenario,
        "step": step,
        "task": task,
        "metric": metric,
        "value": value,
    }


def _parts(trial: Trial) -> list[memory.Part]:
    """What its memory goes to."""
    counted, method = range(len(trial.tasks)), methods.METHODS[trial.method]
    images = [len(trial.open(i, split)) for i in counted for split in ("train", "validation")]
    steps = max(len(schedule(task, trial.params.presentation)) for task in trial.tasks)
    p = method.configure(trial.params)
    return memory.parts(p, images, steps, method.sees(p.readout_layers))


def _save(
    trial: Trial,
    state: tuple[dict, dict],
    rows: list[dict],
    at: dict[str, int],
    made: dict[str, Any],
) -> None:
    """The state from which a killed run goes on; older ones beyond the limit are removed."""
    tensors, plain = state
    path = trial.folder / f"last-{at['position']:03d}-{at['done']:07d}.safetensors"
    checkpoint.save(path, tensors, {**plain, "rows": rows, "at": at}, made)
    checkpoint.keep(trial.folder, "last-*.safetensors", trial.params.keep_checkpoints)
