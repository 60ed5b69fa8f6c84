"""How a cost grows with a size: the exponent k of cost ~ size^k. 1 is linear, 0 is flat."""

import numpy as np
import pandas as pd


def exponent(size: np.ndarray, cost: np.ndarray) -> float:
    """Slope of the least-squares line through (log size, log cost); NaN for less than two sizes."""
    if len(set(size)) < 2:
        return float("nan")
    return float(np.polyfit(np.log(size), np.log(cost), 1)[0])


def with_exponents(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` (``sweep``, ``x``, ``quantity``, ``value``) with the ``exponent`` of each curve."""
    curves = frame.groupby(["sweep", "quantity"])[["x", "value"]]
    fitted = curves.apply(lambda curve: exponent(curve["x"], curve["value"])).rename("exponent")
    return frame.join(fitted, on=["sweep", "quantity"])
