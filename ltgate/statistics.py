"""One method against others, seed by seed: differences, intervals, corrected tests.

For every comparison the paired difference d over seeds, its mean with a 95 % Student t interval,
the paired t test, its p value corrected for the number of comparisons made in the same setting
(Holm 1979), Wilcoxon's signed-rank test and the effect size mean(d) / s(d) (Cohen's d of paired
differences). With n seeds Wilcoxon's p value cannot fall below 2^(1-n).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ltgate import metrics

COLUMNS = [
    "method", "against", "metric", "scenario", "sequence", "cue", "train_images", "seeds",
    "difference", "ci_low", "ci_high", "p_t", "p_corrected", "p_wilcoxon", "effect_size",
]  # fmt: skip
SETTING = ["metric", "scenario", "sequence", "cue", "train_images"]
METRICS = ("acc", "forgetting", "spikes_per_sample")


def compare(values: pd.DataFrame, method: str, wanted: tuple[str, ...] = METRICS) -> pd.DataFrame:
    """Table of ``method`` less every other method in every setting.

    ``values`` are those of :func:`ltgate.results.by_seed`; only seeds that both methods have count,
    and two are needed. Columns: ``COLUMNS``; differences in the metric's own unit.
    """
    rows: list[dict] = []
    for setting, part in values[values["metric"].isin(wanted)].groupby(SETTING, sort=False):
        table = part.pivot(index="seed", columns="method", values="value")
        if method not in table:
            continue
        made = []
        for other in table.columns.drop(method):
            pairs = table[[method, other]].dropna()
            if len(pairs) < 2:
                continue
            tests = paired_tests(*(pairs[name].to_numpy(float) for name in (method, other)))
            row = {**dict(zip(SETTING, setting, strict=True)), "method": method, "against": other}
            made.append(row | tests)
        if made:
            corrected = holm([row["p_t"] for row in made])
            rows += [row | {"p_corrected": p} for row, p in zip(made, corrected, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def paired_tests(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Values [n] of two methods over the same seeds, n >= 2: the columns ``seeds`` and further on.

    Where every difference is the same, s is 0: the effect size is 0 or infinite, p_t is 1 or 0.
    """
    from scipy import stats  # here, because it takes most of a second

    gaps = a - b
    mean, low, high = metrics.mean_interval(gaps)
    found = {"seeds": len(gaps), "difference": mean, "ci_low": low, "ci_high": high}
    if not gaps.any():
        return {**found, "p_t": 1.0, "p_wilcoxon": 1.0, "effect_size": 0.0}
    p_t, spread = 0.0, float(gaps.std(ddof=1))
    if spread <= 1e-12 * abs(mean):  # equal but for rounding
        effect = float(np.copysign(np.inf, mean))
    else:
        p_t, effect = float(stats.ttest_rel(a, b).pvalue), mean / spread
    p_wilcoxon = float(stats.wilcoxon(gaps).pvalue)
    return {**found, "p_t": p_t, "p_wilcoxon": p_wilcoxon, "effect_size": effect}


def holm(p: Sequence[float]) -> np.ndarray:
    """p values corrected for their number, in their order: the k-th smallest times n - k, k from 0.

    None is below that of a smaller one, nor above 1; NaN stays (Holm 1979).
    """
    p = np.asarray(p, float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))).clip(max=1)
    return corrected
