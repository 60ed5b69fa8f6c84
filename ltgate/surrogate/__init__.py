"""Training through time by surrogate gradients, for the baselines that need it."""

from ltgate.surrogate.gradients import Gradients, loss_and_gradients
from ltgate.surrogate.head import LinearHead

__all__ = ["Gradients", "LinearHead", "loss_and_gradients"]
