"""Naive sequential learning: LT-Gate's features, no protection of earlier tasks."""

from typing import Any, ClassVar

from ltgate.methods.base import SpikingLearner


class Sequential(SpikingLearner):
    """The lower bound: a delta rule over all classes, one task after the other."""

    preset: ClassVar[dict[str, Any]] = {
        "filters": "first",
        "projector": "none",
        "readout": "delta",
        "readout_rate": 1.0,
    }
