"""Continual-learning metrics: pure functions of the accuracy matrix R.

``R`` is an array ``[T, T]`` of fractions 0-1: ``R[i, j]`` is the test accuracy on task ``j`` after
learning task ``i`` (both counted from 0 here, in the order of learning), NaN for ``j > i``. A
metric is NaN when an entry that it needs is missing, or when it needs two tasks and T = 1.

Sources: Lopez-Paz & Ranzato 2017 (Gradient episodic memory, NeurIPS), Chaudhry et al. 2018
(Riemannian walk for incremental learning, ECCV), van de Ven & Tolias 2019 (Three scenarios for
continual learning, arXiv 1904.07734).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ltgate.errors import UserError


def accuracy(scores: ArrayLike, labels: ArrayLike, classes: Sequence[int] | None = None) -> float:
    """Fraction of samples whose highest score is that of their label.

    The scenarios of van de Ven & Tolias 2019: ``classes=None`` takes the argmax over all columns
    (``class``: one head, no task label); the ``classes`` of the samples' task restrict it to those
    columns (``task``: the task label is given). Ties go to the class listed first.

    Shapes: ``scores [N, C]``, ``labels [N]`` integer columns of ``scores``.
    Raises ``UserError`` when the shapes differ, N is 0 or a score is not finite.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or labels.size == 0:
        raise UserError(
            f"scores {list(scores.shape)} and labels {list(labels.shape)}: "
            "allowed are shapes [N, C] and [N] with N > 0"
        )
    if not np.isfinite(scores).all():
        raise UserError("scores hold NaN or infinity: allowed are finite numbers")
    columns = np.arange(scores.shape[1]) if classes is None else np.asarray(classes)
    return float(np.mean(columns[np.argmax(scores[:, columns], axis=1)] == labels))


def average_accuracy(R: ArrayLike) -> float:
    """``ACC = 1/T sum_j R[T-1, j]``: the mean of the last row (Lopez-Paz & Ranzato 2017)."""
    return float(_matrix(R)[-1].mean())


def backward_transfer(R: ArrayLike) -> float:
    """``BWT = 1/(T-1) sum_{j<T-1} (R[T-1, j] - R[j, j])`` (Lopez-Paz & Ranzato 2017).

    Negative where later tasks cost accuracy on earlier ones.
    """
    R = _matrix(R)
    return _mean(R[-1, :-1] - np.diag(R)[:-1])


def forgetting(R: ArrayLike) -> float:
    """``F = 1/(T-1) sum_{j<T-1} (max_{j<=i<T-1} R[i, j] - R[T-1, j])`` (Chaudhry et al. 2018).

    Each earlier task's best accuracy before the last task, less its accuracy at the end.
    """
    R = _matrix(R)
    best = np.array([R[j:-1, j].max() for j in range(len(R) - 1)])
    return _mean(best - R[-1, :-1])


def forgetting_excess(R: ArrayLike, R_joint: ArrayLike) -> float:
    """``F(R) - F(R_joint)``: forgetting beyond what joint training on all tasks so far loses too.

    A single head has more classes to tell apart after every task, so even ``R_joint`` (row ``i``:
    trained on tasks 0..i together) drops; only the rest is forgetting. Both are ``[T, T]``.
    """
    R, R_joint = _matrix(R), _matrix(R_joint)
    if R.shape != R_joint.shape:
        raise UserError(f"R_joint has shape {list(R_joint.shape)}: allowed is R's, {list(R.shape)}")
    return forgetting(R) - forgetting(R_joint)


def retention(R: ArrayLike) -> float:
    """``1/(T-1) sum_{j<T-1} R[T-1, j] / R[j, j]``: the share of each earlier task's accuracy kept.

    NaN when an earlier task was never above 0.
    """
    R = _matrix(R)
    learned = np.diag(R)[:-1]
    return _mean(R[-1, :-1] / np.where(learned == 0, np.nan, learned))


def mean_interval(values: ArrayLike) -> tuple[float, float, float]:
    """Mean of ``values [n]`` and its 95 % Student t interval: ``(mean, low, high)``.

    ``mean -+ t_{n-1, 0.975} s / sqrt(n)``, ``s`` with n - 1 degrees of freedom. One value has no
    interval: low and high are NaN. The interval is not cut at 0 or 1.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or values.size == 0:
        raise UserError(f"values have shape {list(values.shape)}: allowed is [n] with n > 0")
    mean = float(values.mean())
    if values.size == 1:
        return mean, float("nan"), float("nan")
    error = values.std(ddof=1) / np.sqrt(values.size)
    half = float(special.stdtrit(values.size - 1, 0.975) * error)  # Student's t
    return mean, mean - half, mean + half


def _matrix(R: ArrayLike) -> np.ndarray:
    R = np.asarray(R, dtype=float)
    if R.ndim != 2 or R.shape[0] != R.shape[1] or R.size == 0:
        raise UserError(f"R has shape {list(R.shape)}: allowed is [T, T], T > 0")
    return R


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
