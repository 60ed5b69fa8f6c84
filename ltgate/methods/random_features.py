"""Random filters under the same readout and projector as ``lt_gate``."""

from typing import Any, ClassVar

from ltgate.methods.base import SpikingLearner


class RandomFeatures(SpikingLearner):
    """What the readout alone achieves: the filters stay as drawn."""

    preset: ClassVar[dict[str, Any]] = {"filters": "random", "projector": "full", "readout": "rls"}
