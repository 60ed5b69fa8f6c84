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
            test = metrics.paired_test(pairs[method], pairs[other])
            mean, low, high = metrics.mean_interval(pairs[method] - pairs[other])
            row = dict(zip(SETTING, setting, strict=True))
            row |= {"method": method, "against": other, "seeds": test.n, "difference": mean}
            row |= {"ci_low": low, "ci_high": high, "p_t": test.p_t}
            row |= {"p_wilcoxon": test.p_wilcoxon, "effect_size": test.cohens_d}
            made.append(row)
        if made:
            corrected = holm([row["p_t"] for row in made])
            rows += [row | {"p_corrected": p} for row, p in zip(made, corrected, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def holm(p: Sequence[float]) -> np.ndarray:
    """p values corrected for their number, in their order: the k-th smallest times n - k, k from 0.

    None is below that of a smaller one, nor above 1; NaN stays (Holm 1979).
    """
    p = np.asarray(p, float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))).clip(max=1)
    return corrected
