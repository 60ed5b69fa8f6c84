"""LT-Gate as its published code defines it (and never ran it): see the defects in README.md."""

from typing import Any, ClassVar

from ltgate.methods.base import SpikingLearner


class LTGatePublished(SpikingLearner):
    """Every published choice: raw current, ``or`` output, hard gate on updates, rank-one projector.

    Filters learn in every batch; the readout is a delta rule on the last dense layer.
    """

    preset: ClassVar[dict[str, Any]] = {
        "balanced": False,
        "current": "raw",
        "output": "or",
        "reset": "subtract",
        "filters": "always",
        "gate": "select",
        "projector": "rank1",
        "normalise_counts": False,
        "readout": "delta",
        "readout_layers": ["dense"],
        "threshold_scope": "layer",
        "target_rate": 0.02,
    }
