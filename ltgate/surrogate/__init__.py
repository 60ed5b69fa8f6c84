"""Training through time by surrogate gradients, for the baselines that need it."""

from ltgate.surrogate.gradients import Gradients, LinearHead, loss_and_gradients

__all__ = ["Gradients", "LinearHead", "loss_and_gradients"]
