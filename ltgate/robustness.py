r"""Timescale robustness: learned at one frame rate, tested at others, nothing adapted in between.

A learner meets the sequence of tasks with all of them at the training rate f (Hz). Its snapshot
then answers on the same test images shown at a rate f', for the same duration, with the same
current in every frame (a stream: the same frames), once with one step per frame (``frame``) and
once with a frame's charge on a clock of 1 ms (``pulse``). Only dt in the neuron's equation changes:
weights, thresholds, gates and readout stay as they were learned at f under ``frame``. The figure
of merit per seed is::

    kept(f, f') = ACC at f' / ACC at f under ``frame``

with ACC the mean accuracy over the tasks after the last one, argmax over all classes.

Every pair of a learner and a test writes its own result rows, so a killed run goes on from there.
"""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pandas as pd

from ltgate import checkpoint, metrics, paths, results, statistics, train
from ltgate.data import store
from ltgate.declare import Distinct, Group, Positive, Some
from ltgate.errors import UserError
from ltgate.methods import create
from ltgate.processes import side_by_side
from ltgate.train import Trial

if TYPE_CHECKING:
    from ltgate.params import Params

PRESENTATIONS = ("frame", "pulse")
SETTING = ["method", "trained_hz", "tested_hz", "presentation"]
COLUMNS = [
    *SETTING, "mean", "ci_low", "ci_high", "kept", "kept_low", "kept_high", "spikes_per_sample",
    "seeds",
]  # fmt: skip
COLUMNS_KEPT = [
    "method", "trained_hz", "kept", "ci_low", "ci_high", "more", "more_low", "more_high",
    "p_corrected", "seeds",
]  # fmt: skip


class RobustnessParameters(Group, compute=True):
    """Timescale robustness."""

    robustness_trained: Annotated[list[Positive], Some, Distinct] = [50.0, 1000.0]
    """frame rates that a learner of its own is trained at (Hz)"""
    robustness_rates: Annotated[list[Positive], Some, Distinct] = [
        12.5,
        50.0,
        200.0,
        250.0,
        1000.0,
        4000.0,
    ]
    """frame rates that each of them is tested at (Hz)"""


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


def at_rate(params: "Params", rate: float) -> "Params":
    """``params`` with every task at ``rate`` Hz (:func:`ltgate.data.store.at_rate`)."""
    tasks = [store.at_rate(params, task, rate).model_dump() for task in params.tasks]
    return params.with_(tasks=tasks, presentation="frame", keep_features=False)


def conditions(params: "Params") -> list[Condition]:
    """Every test, those of one learner in a row, the one at its training rate first."""
    return [
        Condition(Trial(at_rate(params, trained), method, seed), trained, tested, presentation)
        for seed in params.seeds
        for method in params.methods
        for trained in params.robustness_trained
        for tested in sorted({trained, *params.robustness_rates}, key=lambda f: (f != trained, f))
        for presentation in PRESENTATIONS
    ]


def run(params: "Params") -> None:
    """Train every learner and take every test that has no rows yet, learners side by side."""
    learners = itertools.groupby(_missing(params), key=lambda condition: condition.trial)
    groups = [list(tests) for _, tests in learners]
    number = train.at_once([tests[0].trial for tests in groups])
    side_by_side(_take, groups, number, "robustness")


def _missing(params: "Params") -> list[Condition]:
    folder = paths.run(params.name)
    return [test for test in conditions(params) if not results.exists(folder, test.key)]


def _take(tests: list[Condition]) -> None:
    """All tests of one learner."""
    trial = tests[0].trial
    made = trial.made()
    for condition in tests:
        tested = {"tested_hz": condition.tested_hz, "presentation": condition.presentation}
        record = trial.origin(made, "test", **tested)
        results.write(paths.run(trial.params.name), condition.key, _rows(condition), record)


def by_seed(params: "Params") -> pd.DataFrame:
    """Accuracy, share kept and spikes per sample of every test of every learner."""
    folder, lines, reference = paths.run(params.name), [], float("nan")
    if _missing(params):
        raise UserError(f"{folder}: no results of configuration {params.hash}; run the tests first")
    for condition in conditions(params):
        rows = results.load(folder, condition.key)
        accuracy, spikes = (
            results.choose(rows, metric=condition.metric(name))["value"].mean()
            for name in ("accuracy", "spikes_per_sample")
        )
        trial, tested = condition.trial, (condition.tested_hz, condition.presentation)
        if tested == (condition.trained_hz, "frame"):
            reference = accuracy
        key = (trial.method, condition.trained_hz, *tested)
        lines.append((*key, trial.seed, accuracy, accuracy / reference, spikes))
    return pd.DataFrame(lines, columns=[*SETTING, "seed", "accuracy", "kept", "spikes"])


def table(params: "Params") -> pd.DataFrame:
    """``table_robustness``: accuracy and share kept, mean over seeds and 95 % t interval."""
    lines = []
    for key, rows in by_seed(params).groupby(SETTING, sort=False):
        numbers = [*metrics.mean_interval(rows["accuracy"]), *metrics.mean_interval(rows["kept"])]
        lines.append((*key, *numbers, rows["spikes"].mean(), len(rows)))
    return pd.DataFrame(lines, columns=COLUMNS)


def table_kept(params: "Params") -> pd.DataFrame:
    """``table_kept``: the least share kept between a quarter and four times the training rate.

    The least over rates and presentations, per training rate and over all (``all``); mean over
    seeds and 95 % t interval. ``more``: by how much the first method keeps more than this one,
    paired over seeds, its interval and its p value (t test, Holm-corrected, see
    :mod:`ltgate.statistics`).
    """
    rows = by_seed(params)
    rows = rows[(rows["tested_hz"] / rows["trained_hz"]).between(1 / 4, 4)]
    rows = rows.assign(trained_hz=rows["trained_hz"].map("{:g}".format))
    rows = pd.concat([rows, rows.assign(trained_hz="all")])
    least = rows.groupby(["trained_hz", "method", "seed"], sort=False)["kept"].min().reset_index()
    values = least.rename(columns={"trained_hz": "metric", "kept": "value"})
    values = values.assign(**dict.fromkeys(statistics.SETTING[1:], ""))
    wanted = tuple(least["trained_hz"].unique())
    tests = statistics.compare(values, params.methods[0], wanted).set_index(["metric", "against"])
    lines = []
    for (rate, method), seeds in least.groupby(["trained_hz", "method"], sort=False):
        more = tests.reindex([(rate, method)])[["difference", "ci_low", "ci_high", "p_corrected"]]
        kept = metrics.mean_interval(seeds["kept"])
        lines.append((method, rate, *kept, *more.iloc[0], len(seeds)))
    return pd.DataFrame(lines, columns=COLUMNS_KEPT)


def _rows(condition: Condition) -> list[dict]:
    """Accuracy and spikes on the test images of every task."""
    trial = condition.trial
    p = trial.params.with_(presentation=condition.presentation)
    learner = create(trial.method, p, np.random.default_rng())  # all it draws is replaced
    checkpoint.restore(trial.folder / train.trained(trial), learner.load_snapshot)
    last, rate = len(trial.tasks) - 1, condition.tested_hz
    tests = (train.rows_at(trial, learner, task, last, rate, "test") for task in trial.tasks)
    return list(itertools.chain.from_iterable(tests))
