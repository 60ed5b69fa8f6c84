"""LT-Gate as this artifact reads it best: dual compartments, local filters, full projector."""

from typing import Any, ClassVar

from ltgate.methods.base import SpikingLearner


class LTGate(SpikingLearner):
    """Filters learned locally on the first task, then a readout by recursive least squares.

    The ``full`` projector (the readout's matrix P) is neither local nor on-chip.
    """

    preset: ClassVar[dict[str, Any]] = {"filters": "first", "projector": "full", "readout": "rls"}
