r"""The local timescale gate, from the running variance of each compartment's activity.

Per channel and compartment, with r the mean crossing rate of one image over steps and positions::

    var_c <- (1 - lambda) var_c + lambda Var_batch(r_c),       lambda = 1e-3, var_c starts at 1e-4

Two readings, both kept:

* ``select`` (published code): gamma = 1 where var_fast <= var_slow, else 0. Hard; it masks the
  weight updates only: W_fast moves by gamma, W_slow by 1 - gamma.
* ``blend`` (abstract): gamma = var_slow / (var_fast + var_slow), the quieter compartment favoured.
  Soft; it enters the neuron's equation (``output = blend``) and weighs the updates likewise.

Others are set once, on the first task, before its thresholds are calibrated (``set_point``,
``teacher``, ``random``, ``oracle``), from the power of each compartment's trace without resets
(:mod:`ltgate.timescale`) or from a neuron's own counts. A gate that follows the sample is the
neuron's (parameter ``follows``).

A new gate is a subclass of :class:`Gate` (or of :class:`VarianceGate`) and one entry in ``GATES``.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ltgate.declare import Group, OneOf, Share
from ltgate.network import groups_of
from ltgate.registry import Registry
from ltgate.state import Tensors

if TYPE_CHECKING:
    from ltgate.params import Params

START = 1e-4
GATES = Registry()  # name -> subclass of Gate


class GateParameters(Group):
    """Gate."""

    gate: Annotated[str, OneOf(GATES)] = "select"
    """gate: hard, masks updates; soft, in the neuron; or fixed at gamma"""
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.5
    """fixed or initial weight of the fast membrane"""
    variance_lambda: Share = 0.001
    """rate of the gate's running variance per step"""


class First(NamedTuple):
    """What a gate may look at on the first task, before its thresholds are calibrated.

    Attributes:
        power: q_c, mean square of each compartment's trace without resets, [C, channels].
        counts: Of a gamma for all neurons: their spikes [N, channels] under thresholds calibrated
            for it, and labels [N].
        generator: The source of every draw.
    """

    power: Tensor
    counts: Callable[[float], tuple[Tensor, Tensor]]
    generator: np.random.Generator


class Gate(Tensors):
    """The gate of one layer; this one leaves gamma as it is.

    Attributes:
        variance: Running variances [2, channels] (fast first).
    """

    def __init__(self, channels: int, params: "Params", generator: np.random.Generator) -> None:
        super().__init__(variance=torch.full((2, channels), START, dtype=torch.float64))
        self.params = params

    def start(self, now: Tensor, first: First) -> Tensor:
        """gamma [channels] before the thresholds are calibrated; ``now`` so far."""
        return now

    def observe(self, crossings: Tensor, steps: int, positions: int, rate: float) -> None:
        """Take in one batch.

        Args:
            crossings: Threshold crossings [B, 2, channels] summed over steps and positions.
            steps: T.
            positions: height x width of the layer.
            rate: lambda.
        """

    def gamma(self, now: Tensor) -> Tensor:
        """gamma [channels], which is ``now`` so far."""
        return now


class VarianceGate(Gate):
    """A gate that keeps the running variances, from their published start of 1e-4."""

    def observe(self, crossings: Tensor, steps: int, positions: int, rate: float) -> None:
        """Move the variances by the module's equation."""
        activity = crossings.cpu().double() / (steps * positions)
        batch = activity.var(0, unbiased=False)
        self.variance = (1 - rate) * self.variance + rate * batch


@GATES.add("select")
class Select(VarianceGate):
    """Hard: 1 where the fast compartment is the quieter one, else 0."""

    def gamma(self, now: Tensor) -> Tensor:
        """1 or 0."""
        fast, slow = self.variance
        return (fast <= slow).float()


@GATES.add("blend")
class Blend(VarianceGate):
    """Soft: the slow compartment's share of both variances."""

    def gamma(self, now: Tensor) -> Tensor:
        """In [0, 1]."""
        fast, slow = self.variance
        total = fast + slow
        return torch.where(total > 0, slow / total, 0.5).float()  # silent both: a tie


GATES["fixed"] = Gate


@GATES.add("set_point")
class SetPoint(Gate):
    """Hard: the compartment whose power lies closer to the layer's set point.

    q* = median of q_c over compartments and neurons; gamma = 1 where |log q_fast / q*| <=
    |log q_slow / q*|.
    """

    def start(self, now: Tensor, first: First) -> Tensor:
        """1 or 0."""
        logs = first.power.double().clamp_min(1e-30).log()
        fast, slow = (logs - logs.median()).abs()
        return (fast <= slow).to(now)


@GATES.add("teacher")
class Teacher(Gate):
    """Hard: the compartment under which the neuron's own counts differ more between classes.

    Fisher ratio: the variance of the classes' mean counts over the variance of the counts.
    """

    def start(self, now: Tensor, first: First) -> Tensor:
        """1 or 0."""

        def fisher(spikes: Tensor, labels: Tensor) -> Tensor:
            spikes = spikes.double()
            between = sum(
                (labels == label).double().mean()
                * (spikes[labels == label].mean(0) - spikes.mean(0)) ** 2
                for label in labels.unique()
            )
            return between / (spikes.var(0, unbiased=False) + 1e-9)

        return (fisher(*first.counts(1.0)) >= fisher(*first.counts(0.0))).to(now)


@GATES.add("random")
class Random(Gate):
    """Hard: a random half of the neurons is fast, the others slow."""

    def start(self, now: Tensor, first: First) -> Tensor:
        """1 or 0."""
        return torch.from_numpy(first.generator.permutation(len(now)) < len(now) // 2).to(now)


@GATES.add("oracle")
class Oracle(Gate):
    """Hard: the first half of the neurons is fast; the truth where ``fan_in_groups`` is 2."""

    def start(self, now: Tensor, first: First) -> Tensor:
        """1 or 0."""
        return torch.from_numpy(groups_of(len(now), 2) == 0).to(now)
