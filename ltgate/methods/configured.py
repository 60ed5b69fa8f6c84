"""Whatever the parameters say, without a preset of its own: for ablations and grids."""

from ltgate.methods.base import SpikingLearner


class Configured(SpikingLearner):
    """Filters, gate, projector and readout as the parameters name them.

    Other methods lay their defining choices over the parameters; here none is fixed, so that any
    of them can be varied.
    """
