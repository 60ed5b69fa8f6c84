"""Tidy result rows on disk, and what is computed from them.

One row is one number. A run writes one CSV file a key (``<run folder>/results/<key>.csv``),
whole or not at all; ``load`` joins them. Beside it, ``<key>.json`` says what it takes to get the
rows again: version, commit, parameters, seed, libraries, machine. Columns:

============ ===== =================================================================================
config       text  hash of the parameters (``Params.hash``); a control or another sequence of the
                   same parameters keeps it and differs in ``cue`` or ``sequence``
method       text  name of the method
seed         int
sequence     text  the tasks in order
cue          text  ``yes``, or ``no`` for the control with every task at the same frame rate
train_images int   training images seen
split        text  ``validation`` or ``test`` (``train`` for ``boundary``)
scenario     text  ``class`` or ``task``
step         int   index of the task learned last, or the batch number of a curve
task         text  name of the task tested; empty or ``all`` where none is meant
metric       text  ``accuracy`` (an entry of R), ``curve_accuracy``, ``boundary`` (a task begins
                   at batch ``step``; its index is the value), ``spikes_per_sample``,
                   ``state_bytes``, ``spike_rate/<layer>``, ``gate/<layer>``; tests at another
                   frame rate are ``accuracy/<rate>Hz/<presentation>``, ``spikes_per_sample/...``
value        float fractions 0-1, counts, bytes
============ ===== =================================================================================
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ltgate import done, files, metrics
from ltgate.errors import UserError
from ltgate.files import atomic
from ltgate.progress import tell

if TYPE_CHECKING:
    from ltgate.params import Params

COLUMNS = {
    "config": str,
    "method": str,
    "seed": int,
    "sequence": str,
    "cue": str,
    "train_images": int,
    "split": str,
    "scenario": str,
    "step": int,
    "task": str,
    "metric": str,
    "value": float,
}
MAIN_COLUMNS = [
    "method", "scenario", "sequence", "cue", "metric", "mean", "ci_low", "ci_high", "seeds",
    "train_images", "paper",
]  # fmt: skip
COSTS = ("spikes_per_sample", "state_bytes")
MAIN_METRICS = (
    "acc", "forgetting", "forgetting_excess", "bwt", "retention", "task_told", *COSTS
)  # fmt: skip

# Method prefix and metric -> the paper's value. Accuracies: abstract of arXiv 2510.12843. The
# forgetting is second hand (a summary of the paper); its protocol is unpublished.
PAPER = {("lt_gate", "acc"): 0.51, ("hlop", "acc"): 0.46, ("lt_gate", "forgetting"): 0.032}

_GROUP = ["method", "scenario", "sequence", "cue", "train_images"]


def write(
    folder: str | Path, key: str, rows: list[dict], record: Mapping[str, Any] | None = None
) -> Path:
    """Write ``rows`` (each with exactly the columns above) as ``folder/results/<key>.csv``.

    ``folder`` is the run's folder; ``record`` says where the rows come from
    (:mod:`ltgate.provenance`) and lies beside them as ``<key>.json``, with their checksum. An
    earlier file of the same key is replaced. Returns the path.
    """
    path = _path(folder, key)
    if not rows:
        raise UserError(f"rows of {key!r} are empty: at least one is needed")
    frame = pd.DataFrame(rows)[list(COLUMNS)]
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")
        whole = {**done.record(), **(record or {}), "sha256": files.sha256(temporary)}
        files.write_json(path.with_suffix(".json"), whole)
    return path


def load(folder: str | Path, key: str = "") -> pd.DataFrame:
    """All rows of the run folder ``folder``, or of one key, that are done (:mod:`ltgate.done`).

    Keys come in alphabetical order; no file, no rows. Of files that are not done is told how many
    are left out; a single key raises `UserError`.
    """
    if key:
        if what := changed(folder, key):
            raise UserError(f"{_path(folder, key)}: {what} has changed since; run it again")
        return _read(_path(folder, key))
    found = sorted(x for x in (Path(folder) / "results").glob("*.csv") if x.name[0] != ".")
    kept = [path for path in found if not changed(folder, path.stem)]
    if len(kept) < len(found):
        tell(
            f"{folder}: {len(found) - len(kept)} of {len(found)} files of rows are left out: they "
            "are not whole, or made by other code or from other images"
        )
    empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    return pd.concat([_read(path) for path in kept], ignore_index=True) if kept else empty


def exists(folder: str | Path, key: str) -> bool:
    """Whether the rows of ``key`` are in the run folder ``folder``, and done."""
    return not changed(folder, key)


def changed(folder: str | Path, key: str) -> str:
    """What has changed since the rows of ``key`` were written (:func:`ltgate.done.changed`), or ''.

    ``it`` where there is no such file, or its bytes are not those that were written.
    """
    path = _path(folder, key)
    record = files.read_json(path.with_suffix(".json"))
    try:
        if record.get("sha256") != files.sha256(path):
            return "it"
    except OSError:
        return "it"
    return done.changed(record)


def choose(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows whose columns have these ``values``: ``choose(frame, method="joint", seed=0)``."""
    for name, value in values.items():
        if name not in frame:
            raise UserError(
                f"column {name!r} (= {value!r}) is not there; allowed are {', '.join(frame)}"
            )
        frame = frame[frame[name] == value]
    return frame


def r_matrix(
    frame: pd.DataFrame, tasks: Sequence[str] | None = None, **values: object
) -> np.ndarray:
    """Matrix ``R [T, T]`` (see ``metrics``) from the ``accuracy`` rows of one method and seed.

    ``values`` choose the rows, as in ``choose``; one value at most may be left for each step and
    task. ``tasks`` is the order of learning; without it, the order in which tasks first appear when
    the rows are sorted by step. Entries without a row, and above the diagonal, are NaN.
    """
    rows = choose(frame, metric="accuracy", **values)
    if rows.empty:
        raise UserError(f"no accuracy rows for {values}: R needs one for each step and task")
    tasks = _order(rows) if tasks is None else list(tasks)
    if (repeated := rows.duplicated(["step", "task"])).any():
        row = rows[repeated].iloc[0]
        raise UserError(
            f"several accuracies for step {row['step']}, task {row['task']!r}: allowed is one, "
            "choose one method, seed, sequence, cue, scenario, split and train_images"
        )
    R = np.full((len(tasks), len(tasks)), np.nan)
    for step, task, value in zip(rows["step"], rows["task"], rows["value"], strict=True):
        if task not in tasks or not 0 <= step < len(tasks):
            raise UserError(
                f"accuracy row of step {step}, task {task!r}: allowed are steps 0 to "
                f"{len(tasks) - 1} and tasks {', '.join(tasks)}"
            )
        if tasks.index(task) <= step:
            R[step, tasks.index(task)] = value
    return R


def curves(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Learning curves, as ``figures.learning_curves`` takes them, from the ``curve_accuracy`` rows.

    ``values`` choose the rows, as in ``choose`` (one scenario and one cue). Returns the columns
    method, seed, batch, task, accuracy, boundary, in the order of batches; ``boundary`` is the
    batch at which the last task before this point began, NaN during the first one.
    """
    # Boundaries belong to all scenarios.
    elsewhere = {name: value for name, value in values.items() if name not in ("scenario", "split")}
    begins = choose(frame, metric="boundary", **elsewhere)
    begins = begins[begins["value"] > 0][["method", "seed", "step"]].sort_values("step")
    points = choose(frame, metric="curve_accuracy", **values).sort_values("step", kind="stable")
    points = points.rename(columns={"step": "batch", "value": "accuracy"})
    if (repeated := points.duplicated(["method", "seed", "batch", "task"])).any():
        row = points[repeated].iloc[0]
        raise UserError(
            f"several points of {row['method']}, seed {row['seed']}, batch {row['batch']}, task "
            f"{row['task']!r}: allowed is one, choose one configuration, cue and scenario"
        )
    points = pd.merge_asof(
        points,
        begins.rename(columns={"step": "boundary"}).assign(batch=begins["step"]),
        on="batch",
        by=["method", "seed"],
        allow_exact_matches=False,
    )
    return points[["method", "seed", "batch", "task", "accuracy", "boundary"]]


def by_seed(frame: pd.DataFrame, p: "Params | None" = None, split: str = "test") -> pd.DataFrame:
    """Every main metric of every seed.

    ``frame`` holds result rows; with ``p`` only those of its hash count. Returns the columns
    method, scenario, sequence, cue, train_images, seed, metric, value for the metrics
    ``MAIN_METRICS``. ``forgetting_excess`` is against method ``joint`` of the same seed, scenario,
    sequence, cue and number of images. A metric without a value has no row.
    """
    rows = frame[frame["split"] == split]
    if p is not None:
        rows = rows[rows["config"] == p.hash]
    rows = rows[rows["metric"].isin(["accuracy", "task_told", *COSTS])]
    if rows.empty:
        wanted = f"{split} rows" + (f" of configuration {p.hash}" if p is not None else "")
        found = ", ".join(sorted(frame["config"].unique())) or "no rows"
        raise UserError(f"no {wanted}; found configurations: {found}")
    values = []
    for (*group, seed), part in rows.groupby([*_GROUP, "seed"], sort=False):
        others = dict(zip(_GROUP[1:], group[1:], strict=True), seed=seed)
        joint = choose(rows, method="joint", **others)
        tasks = _order(choose(rows, sequence=others["sequence"]))
        found = _metrics(part, joint, tasks)
        values += [(*group, seed, name, found[name]) for name in MAIN_METRICS if name in found]
    table = pd.DataFrame(values, columns=[*_GROUP, "seed", "metric", "value"])
    return table.dropna(subset="value").reset_index(drop=True)


def summarise(frame: pd.DataFrame, p: "Params | None" = None, split: str = "test") -> pd.DataFrame:
    """The main table: mean over seeds and 95 % Student t interval of every metric.

    ``frame`` and ``p`` as in :func:`by_seed`; with ``p`` methods come in its order. Returns the
    columns ``MAIN_COLUMNS`` for the metrics ``MAIN_METRICS``; ``seeds`` is how many there are,
    ``paper`` the paper's value beside its setting (class-incremental, with the timescale cue) or
    NaN.
    """
    values = by_seed(frame, p, split)
    methods = list(values["method"].unique()) if p is None else list(p.methods)
    table = [
        (*group, *metrics.mean_interval(found), len(found))
        for group, found in values.groupby([*_GROUP, "metric"], sort=False)["value"]
    ]
    columns = [*_GROUP, "metric", "mean", "ci_low", "ci_high", "seeds"]
    place = {name: position for position, name in enumerate(methods)}
    table.sort(key=lambda row: place.get(row[0], len(place)))
    made = pd.DataFrame(table, columns=columns)
    told = made["scenario"].eq("class") & made["cue"].eq("yes")
    made["paper"] = pd.Series(map(_paper, made["method"], made["metric"]), dtype=float).where(told)
    return made[MAIN_COLUMNS]


def _paper(method: str, metric: str) -> float:
    values = (PAPER[begin, of] for begin, of in PAPER if method.startswith(begin) and of == metric)
    return next(values, np.nan)


def _order(rows: pd.DataFrame) -> list[str]:
    """Tasks in the order in which they first have an accuracy."""
    rows = choose(rows, metric="accuracy").sort_values("step", kind="stable")
    return list(rows["task"].unique())


def _metrics(part: pd.DataFrame, joint: pd.DataFrame, tasks: Sequence[str]) -> dict[str, float]:
    """Every main metric of one seed of one method; NaN where an entry of R is missing."""
    found = {}
    if (part["metric"] == "accuracy").any():
        R = r_matrix(part, tasks)
        found = {
            "acc": metrics.average_accuracy(R),
            "forgetting": metrics.forgetting(R),
            "bwt": metrics.backward_transfer(R),
            "retention": metrics.retention(R),
        }
        if (joint["metric"] == "accuracy").any():
            found["forgetting_excess"] = metrics.forgetting_excess(R, r_matrix(joint, tasks))
    for name in ("task_told", *COSTS):
        cost = part[(part["metric"] == name) & part["task"].isin(["", "all"])]
        if len(cost):
            found[name] = float(cost["value"].iloc[cost["step"].argmax()])
    return found


def _path(folder: str | Path, key: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*", key):
        raise UserError(f"key {key!r}: allowed are letters, digits and _ . = + - (not first)")
    return Path(folder) / "results" / f"{key}.csv"


def _read(path: Path) -> pd.DataFrame:
    """Rows that are done; an empty task is a text, not a gap."""
    return pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values={"value": [""]})
