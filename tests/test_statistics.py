"""Paired comparisons against scipy's own tests and a correction done by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ltgate import statistics

SEEDS = 6


def frame(**methods):
    rows = [
        {
            "method": method, "scenario": "class", "sequence": "a>b", "cue": "yes",
            "train_images": 10, "seed": seed, "metric": "acc", "value": value,
        }
        for method, values in methods.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def drawn(mean, seed):
    return mean + 0.01 * np.random.default_rng(seed).standard_normal(SEEDS)


VALUES = {"ours": drawn(0.9, 0), "near": drawn(0.895, 1), "far": drawn(0.5, 2)}


def test_difference_interval_and_tests_are_those_of_scipy():
    table = statistics.compare(frame(**VALUES), "ours").set_index("against")
    for other in ("near", "far"):
        row = table.loc[other]
        expected = stats.ttest_rel(VALUES["ours"], VALUES[other])
        interval = expected.confidence_interval()
        assert row["p_t"] == pytest.approx(expected.pvalue)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high))
        gaps = VALUES["ours"] - VALUES[other]
        assert row["difference"] == pytest.approx(gaps.mean())
        assert row["p_wilcoxon"] == pytest.approx(stats.wilcoxon(gaps).pvalue)
        assert row["effect_size"] == pytest.approx(gaps.mean() / gaps.std(ddof=1))
        assert row["seeds"] == SEEDS


def test_p_values_are_corrected_for_the_number_of_comparisons():
    table = statistics.compare(frame(**VALUES), "ours").set_index("against")
    small, large = sorted(table["p_t"])
    assert sorted(table["p_corrected"]) == pytest.approx([2 * small, max(2 * small, large)])


def test_settings_are_corrected_apart():
    one = frame(**VALUES)
    both = pd.concat([one, one.assign(cue="no")])
    table = statistics.compare(both, "ours")
    assert len(table) == 4
    alone = statistics.compare(one, "ours")
    assert list(table[table["cue"] == "yes"]["p_corrected"]) == list(alone["p_corrected"])


def test_only_seeds_that_both_have_count():
    values = frame(ours=VALUES["ours"], near=VALUES["near"][:3])
    assert statistics.compare(values, "ours")["seeds"].tolist() == [3]
    assert statistics.compare(frame(ours=VALUES["ours"], near=VALUES["near"][:1]), "ours").empty


def test_a_method_that_is_not_there_has_no_table():
    table = statistics.compare(frame(**VALUES), "nothing")
    assert table.empty
    assert list(table) == statistics.COLUMNS


def test_holm_by_hand():
    # sorted 0.01, 0.03, 0.04: times 3, 2, 1 are 0.03, 0.06, 0.04, and none falls below another
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert statistics.holm([0.5, float("nan")]) == pytest.approx([1, float("nan")], nan_ok=True)


def test_constant_differences():
    same = statistics.paired_tests(np.array([0.5, 0.6]), np.array([0.5, 0.6]))
    assert [same[x] for x in ("difference", "p_t", "p_wilcoxon", "effect_size")] == [0, 1, 1, 0]
    below = statistics.paired_tests(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.3, 0.4]))
    assert below["p_t"] == 0 and below["effect_size"] == -np.inf
    assert below["p_wilcoxon"] == pytest.approx(0.25)
