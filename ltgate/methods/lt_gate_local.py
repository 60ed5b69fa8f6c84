"""The best strictly local reading: LT-Gate's filters under a readout that competes."""

from typing import Any, ClassVar

from ltgate.methods.base import SpikingLearner


class LTGateLocal(SpikingLearner):
    """Every synapse learns from its own pre- and postsynaptic activity, a gate and a teacher.

    No matrix over all inputs, no error of other neurons, nothing replayed.
    """

    preset: ClassVar[dict[str, Any]] = {
        "filters": "first",
        "projector": "none",
        "readout": "prototypes",
    }
