r"""Homeostasis: thresholds move until neurons fire at a target rate, on the first task only.

A neuron that fires too often gets a higher threshold, one that fires too rarely a lower one. As the
rate falls when theta rises, each threshold is found by bisection of log theta between two bounds,
until its rate is within the tolerance of the target; layer by layer from the input.
"""

from collections.abc import Callable
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ltgate.backends import Activity
from ltgate.declare import Count, Group, Positive, Whole
from ltgate.network import Layer, Network


class HomeostasisParameters(Group):
    """Thresholds."""

    target_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """spikes per neuron and step that calibration aims at"""
    threshold_scope: Literal["layer", "channel"] = "channel"
    """what shares one calibrated threshold"""
    threshold_lowest: Positive = 0.0039
    """lower bound of calibration"""
    threshold_highest: Positive = 256.0
    """upper bound of calibration"""
    calibration_batches: Count = 2
    """batches per calibration iteration"""
    calibration_iterations: Whole = 10
    """most calibration iterations; 0 = none"""
    calibration_tolerance: Positive = 0.1
    """relative distance from the target rate that is good enough"""

    @model_validator(mode="after")
    def _ordered_bounds(self) -> Self:
        if self.threshold_lowest >= self.threshold_highest:
            raise ValueError(
                f"threshold_lowest = {self.threshold_lowest:g}: must be below threshold_highest = "
                f"{self.threshold_highest:g}"
            )
        return self


def rates(activity: Activity, layer: Layer, scope: str) -> Tensor:
    """Spikes per step, shaped so that they broadcast to the thresholds.

    ``layer``: one output rate, [1, 1]; ``channel``: each compartment's in each channel, [C, out].
    With one threshold per neuron (``blend``) the output's rate stands for the compartments'.
    """
    positions = layer.out_shape[1] * layer.out_shape[2]
    counts = activity.counts[layer.name].double().mean(0).sum((1, 2)) / positions
    output = (counts / activity.steps).unsqueeze(0)
    if scope == "layer":
        return output.mean().view(1, 1)
    crossed = activity.crossings[layer.name].double().mean(0) / (positions * activity.steps)
    return crossed if layer.threshold.shape[0] == crossed.shape[0] else output


def calibrate(
    network: Network,
    layer: Layer,
    show: Callable[[Network], Activity],
    params: HomeostasisParameters,
) -> Activity:
    """Set the thresholds of one layer in place; those of the layers before it must be set.

    Args:
        network: The layer's network.
        layer: Its thresholds are replaced.
        show: Runs a network on the calibration images.
        params: Target, bounds, most bisections (0 leaves the thresholds), tolerance.

    Returns:
        The activity on the calibration images under the new thresholds.
    """
    part, target = network.upto(layer.name), params.target_rate
    if params.calibration_iterations == 0:
        return show(part)
    low = torch.full_like(layer.threshold, params.threshold_lowest).log()
    high = torch.full_like(layer.threshold, params.threshold_highest).log()
    for _ in range(params.calibration_iterations):
        layer.threshold = ((low + high) / 2).exp()
        activity = show(part)
        rate = rates(activity, layer, params.threshold_scope).to(layer.threshold.device)
        rate = rate.expand_as(layer.threshold)
        if ((rate - target).abs() <= params.calibration_tolerance * target).all():
            break
        middle = layer.threshold.log()
        low = torch.where(rate > target, middle, low)
        high = torch.where(rate > target, high, middle)
    return activity
