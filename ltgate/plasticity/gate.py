r"""The local timescale gate, from the running variance of each compartment's activity.

Per channel and compartment, with r the mean crossing rate of one image over steps and positions::

    var_c <- (1 - lambda) var_c + lambda Var_batch(r_c),       lambda = 1e-3, var_c starts at 1e-4

Two readings, both kept:

* ``select`` (published code): gamma = 1 where var_fast <= var_slow, else 0. Hard; it masks the
  weight updates only: W_fast moves by gamma, W_slow by 1 - gamma.
* ``blend`` (abstract): gamma = var_slow / (var_fast + var_slow), the quieter compartment favoured.
  Soft; it enters the neuron's equation (``output = blend``) and weighs the updates likewise.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ltgate.declare import Group, Share

START = 1e-4


class GateParameters(Group):
    """Gate."""

    gate: Literal["select", "blend", "fixed"] = "select"
    """gate: hard, masks updates; soft, in the neuron; or fixed at gamma"""
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.5
    """fixed or initial weight of the fast membrane"""
    variance_lambda: Share = 0.001
    """rate of the gate's running variance per step"""


@dataclass
class VarianceGate:
    """Running variances [2, channels] of one layer (fast first)."""

    variance: Tensor

    @classmethod
    def create(cls, channels: int) -> "VarianceGate":
        """Variances at their published start of 1e-4."""
        return cls(torch.full((2, channels), START, dtype=torch.float64))

    def observe(self, crossings: Tensor, steps: int, positions: int, rate: float) -> None:
        """Take in one batch.

        Args:
            crossings: Threshold crossings [B, 2, channels] summed over steps and positions.
            steps: T.
            positions: height x width of the layer.
            rate: lambda.
        """
        activity = crossings.cpu().double() / (steps * positions)
        batch = activity.var(0, unbiased=False)
        self.variance = (1 - rate) * self.variance + rate * batch

    def gamma(self, reading: str) -> Tensor:
        """gamma, float32 [channels], by ``select`` or ``blend``."""
        fast, slow = self.variance
        if reading == "select":
            return (fast <= slow).float()
        total = fast + slow
        return torch.where(total > 0, slow / total, 0.5).float()  # silent both: a tie
