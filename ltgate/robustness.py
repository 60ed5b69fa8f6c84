r"""Timescale robustness: learned at one frame rate, tested at others, nothing adapted in between.

A learner meets the sequence of tasks with all of them at the training rate f (Hz). Its snapshot
then answers on the same test images shown at a rate f', for the same duration, with the same
current in every frame, once with one step per frame (``frame``) and once with a frame's charge on
a clock of 1 ms (``pulse``). Only dt in the neuron's equation changes: weights, thresholds, gates
and readout stay as they were learned at f under ``frame``. The figure of merit per seed is::

    kept(f, f') = ACC at f' / ACC at f under ``frame``

with ACC the mean accuracy over the tasks after the last one, argmax over all classes.

Every pair of a learner and a test writes its own result rows, so a killed run goes on from there.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ltgate import checkpoint, metrics, paths, results, train
from ltgate.data.store import open_task
from ltgate.methods import create
from ltgate.params import Params
from ltgate.progress import track
from ltgate.train import Trial

PRESENTATIONS = ("frame", "pulse")
COLUMNS = [
    "method",
    "trained_hz",
    "tested_hz",
    "presentation",
    "mean",
    "ci_low",
    "ci_high",
    "kept",
    "kept_low",
    "kept_high",
    "spikes_per_sample",
    "seeds",
]


@dataclass(frozen=True)
class Condition:
    """A trained learner before images at another frame rate.

    Attributes:
        trial: The learner; its tasks all run at ``trained_hz``.
        trained_hz: The rate f.
        tested_hz: The rate f'.
        presentation: ``frame`` or ``pulse``.
    """

    trial: Trial
    trained_hz: float
    tested_hz: float
    presentation: str

    @property
    def key(self) -> str:
        """Names the result rows."""
        return f"{self.trial.key}-at-{self.tested_hz:g}Hz-{self.presentation}"

    def metric(self, name: str) -> str:
        """``name`` under the test's rate and presentation, as result rows have it."""
        return f"{name}/{self.tested_hz:g}Hz/{self.presentation}"


def at_rate(params: Params, rate: float) -> Params:
    """``params`` with every task at ``rate`` Hz, its duration unchanged."""
    tasks = [{**task.model_dump(), "frame_rate_hz": rate} for task in params.tasks]
    return params.with_(tasks=tasks, presentation="frame", keep_features=False)


def conditions(params: Params) -> list[Condition]:
    """Every test, those of one learner in a row, the one at its training rate first."""
    return [
        Condition(Trial(at_rate(params, trained), method, seed), trained, tested, presentation)
        for seed in params.seeds
        for method in params.methods
        for trained in params.robustness_trained
        for tested in sorted({trained, *params.robustness_rates}, key=lambda f: (f != trained, f))
        for presentation in PRESENTATIONS
    ]


def run(params: Params) -> None:
    """Train every learner and take every test that has no rows yet."""
    torch.set_num_threads(params.threads or torch.get_num_threads())
    for condition in track(conditions(params), label="robustness"):
        folder = paths.run(params.name)
        if not results.exists(folder, condition.key):
            _learn(condition.trial)
            results.write(folder, condition.key, _rows(condition))


def table(params: Params) -> pd.DataFrame:
    """``table_robustness``: accuracy and share kept, mean over seeds and 95 % t interval."""
    folder = paths.run(params.name)
    values: dict[tuple, list[tuple[float, float, float]]] = {}
    for condition in conditions(params):
        rows = results.load(folder, condition.key)
        accuracy, spikes = (
            results.choose(rows, metric=condition.metric(name))["value"].mean()
            for name in ("accuracy", "spikes_per_sample")
        )
        if (condition.tested_hz, condition.presentation) == (condition.trained_hz, "frame"):
            reference = accuracy
        key = (
            condition.trial.method,
            condition.trained_hz,
            condition.tested_hz,
            condition.presentation,
        )
        values.setdefault(key, []).append((accuracy, accuracy / reference, spikes))
    lines = []
    for key, found in values.items():
        accuracy, kept, spikes = np.array(found).T
        numbers = [*metrics.mean_interval(accuracy), *metrics.mean_interval(kept)]
        lines.append((*key, *numbers, spikes.mean(), len(found)))
    return pd.DataFrame(lines, columns=COLUMNS)


def _learn(trial: Trial) -> None:
    """Train, unless the snapshot after the last task is there."""
    if not (trial.folder / _last(trial)).exists():
        train.train(trial)
        checkpoint.keep(trial.folder, "last-*.safetensors", 0)


def _last(trial: Trial) -> str:
    return f"task{len(trial.tasks) - 1}.safetensors"


def _rows(condition: Condition) -> list[dict]:
    """Accuracy and spikes on the test images of every task."""
    trial = condition.trial
    p = at_rate(trial.params, condition.tested_hz).with_(presentation=condition.presentation)
    learner = create(trial.method, p, np.random.default_rng())  # all it draws is replaced
    learner.load_snapshot(*checkpoint.load(trial.folder / _last(trial)))
    classes = [label for task in p.tasks for label in task.classes]
    rows = []
    for task in p.tasks:
        images = open_task(p, task, "test", trial.seed)
        scores = learner.scores(images).numpy()
        found = {
            "accuracy": metrics.accuracy(scores, images.labels, classes),
            "spikes_per_sample": sum(learner.spikes(images).values()),
        }
        rows += [
            train.row(
                trial, "test", "class", len(p.tasks) - 1, task.name, condition.metric(name), value
            )
            for name, value in found.items()
        ]
    return rows
