"""Metrics against values worked out by hand."""

import math

import numpy as np
import pytest

from ltgate import metrics
from ltgate.errors import UserError

NAN = float("nan")
TWO = np.array([[0.98, NAN], [0.90, 0.94]])
THREE = np.array([[0.9, NAN, NAN], [0.95, 0.8, NAN], [0.7, 0.6, 0.5]])


@pytest.mark.parametrize(
    ("metric", "two", "three"),
    [
        (metrics.average_accuracy, 0.92, 0.6),
        (metrics.backward_transfer, -0.08, -0.2),
        (metrics.forgetting, 0.08, 0.225),  # task 0 was at its best after task 1: 0.95 - 0.7
        (metrics.retention, 0.90 / 0.98, (0.7 / 0.9 + 0.6 / 0.8) / 2),
    ],
)
def test_by_hand(metric, two, three):
    assert metric(TWO) == pytest.approx(two, abs=1e-12)
    assert metric(THREE) == pytest.approx(three, abs=1e-12)


def test_forgetting_ignores_a_gain_of_the_last_task():
    assert metrics.forgetting([[0.5, NAN], [0.7, 0.9]]) == pytest.approx(-0.2)


def test_excess_is_forgetting_beyond_that_of_joint_training():
    joint = [[0.99, NAN], [0.96, 0.97]]
    assert metrics.forgetting_excess(TWO, joint) == pytest.approx(0.08 - 0.03)
    assert metrics.forgetting_excess(joint, joint) == 0
    with pytest.raises(UserError, match="R_joint has shape"):
        metrics.forgetting_excess(TWO, THREE)


def test_one_task_has_an_accuracy_and_nothing_to_forget():
    assert metrics.average_accuracy([[0.75]]) == 0.75
    for metric in (metrics.backward_transfer, metrics.forgetting, metrics.retention):
        assert math.isnan(metric([[0.75]]))


def test_a_missing_entry_is_never_hidden():
    missing = [[0.9, NAN, NAN], [NAN, 0.8, NAN], [0.7, 0.6, 0.5]]
    assert math.isnan(metrics.forgetting(missing))
    assert metrics.backward_transfer(missing) == pytest.approx(-0.2)  # does not need that entry
    assert math.isnan(metrics.retention([[0.0, NAN], [0.0, 0.9]]))


@pytest.mark.parametrize("R", [np.zeros((2, 3)), np.zeros(2), np.zeros((0, 0))])
def test_matrix_must_be_square(R):
    with pytest.raises(UserError, match=r"allowed is \[T, T\]"):
        metrics.average_accuracy(R)


def test_accuracy_in_both_scenarios():
    scores = [[0.1, 0.2, 0.9, 0.0], [0.3, 0.8, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0]]
    labels = [1, 1, 1]
    assert metrics.accuracy(scores, labels) == pytest.approx(1 / 3)
    assert metrics.accuracy(scores, labels, classes=[0, 1]) == pytest.approx(2 / 3)
    assert metrics.accuracy([[0.5, 0.5]], [0]) == 1  # a tie goes to the class listed first


@pytest.mark.parametrize(
    ("scores", "labels"), [([[1.0, 0.0]], [0, 1]), ([1.0], [0]), (np.zeros((0, 2)), [])]
)
def test_accuracy_names_wrong_shapes(scores, labels):
    with pytest.raises(UserError, match="allowed are shapes"):
        metrics.accuracy(scores, labels)


def test_accuracy_refuses_a_broken_readout():
    with pytest.raises(UserError, match="finite"):
        metrics.accuracy([[NAN, 1.0]], [0])


def test_interval_by_hand():
    # s = 1, standard error 1 / sqrt(3), t = 4.302653 with 2 degrees of freedom
    assert metrics.mean_interval([1, 2, 3]) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138))


def test_interval_of_one_value_is_unknown_not_zero():
    mean, low, high = metrics.mean_interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)


def test_interval_names_what_is_wrong():
    with pytest.raises(UserError, match="values"):
        metrics.mean_interval([])
