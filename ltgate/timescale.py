r"""What a neuron's timescale follows while a sample runs.

``follows`` names it; all but the first need ``portable`` or what says so. With the current I_c of
compartment c, its trace without resets and the power of that trace up to step n (from 1)::

    e_c[n] = a_c e_c[n-1] + g_c I_c[n],      Q_c[n] = Q_c[n-1] + e_c[n]^2

=========  =====================================================================================
nothing    the gate and the time constants stay as they are stored
neuron     r_c = Q_c / (n q), q the neuron's own set point
layer      r_c = sum Q_c / (n sum q), over all neurons of the layer
rate       one membrane, tau = tau_1 q / f, f the events per ms that have arrived so far
own        one membrane, tau = q, each neuron's own
cue        gamma = 1 while a step is shorter than q ms, else 0 (an oracle that is told the speed)
=========  =====================================================================================

``neuron`` and ``layer`` weigh the membranes of a blend by how close each compartment's power is to
the set point::

    d_c = max(r_c, 1 / r_c)^3,      gamma_c = (1 / d_c) / sum_k (1 / d_k)

which is a softmax of -3 |log r_c| without a transcendental function, so that it rounds alike
everywhere. A layer's sums are of whole multiples of 2^-16: exact in any order.

q is stored in the place of a layer's gate. Quantities are pure; state goes in and comes out.

Source of the idea of a set point of activity: Turrigiano 2008 (homeostasis); of a membrane whose
time constant follows its input: the strongest rival in ``docs/timescales.md``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

GATED = ("neuron", "layer")  # a set point of power
LOWEST = 1e-6  # of r and 1 / r: silence has a finite distance
LEAST = 2.0**-100  # of a set point: a neuron that never had an input has one
UNIT = 2.0**16


class Power(NamedTuple):
    """Traces and their power, of one layer: float32 [C, ...] and [C, ...] (float64 if pooled)."""

    trace: Tensor
    total: Tensor


def follow(
    currents: Tensor,
    before: Power,
    done: int,
    decay: Tensor,
    gain: Tensor,
    set_point: Tensor,
    pooled: bool,
) -> tuple[Tensor, Power]:
    """The weights of the membranes at every step of a block.

    Args:
        currents: [T, C, B, channels, height, width].
        before: The state at the block's start; zeros for a new sample.
        done: Steps before the block.
        decay, gain: As :func:`ltgate.neurons.step` takes them.
        set_point: q, [channels, 1, 1] (broadcastable to a sample of the layer).
        pooled: Whether the layer has one gate.

    Returns:
        Weights [T, C, B, channels, height, width], or [T, C, B, 1, 1, 1] if pooled; and the state.
    """
    trace, total = before
    weights = []
    if pooled:
        neurons = currents.shape[-2] * currents.shape[-1]
        target = torch.round(set_point.double() * UNIT).sum().clamp_min(1) * neurons
    for step, current in enumerate(currents.unbind(0), done + 1):
        trace = trace * decay
        trace = trace + current * gain
        if pooled:
            power = torch.round(trace.double() ** 2 * UNIT)
            total = total + power.sum((-3, -2, -1), keepdim=True)
            weights.append(closeness(total / (step * target)).float())
        else:
            total = total + trace * trace
            weights.append(closeness(total / (step * set_point.clamp_min(LEAST))))
    return torch.stack(weights), Power(trace, total)


def closeness(ratio: Tensor) -> Tensor:
    """gamma_c of r_c, [C, ...]: the module's equation."""
    ratio = ratio.clamp(LOWEST, 1 / LOWEST)
    far = torch.maximum(ratio, 1 / ratio)
    close = 1 / (far * far * far)
    total = close[0]
    for other in close[1:]:
        total = total + other
    return close / total


def power(currents: Tensor, decay: Tensor, gain: Tensor) -> Tensor:
    """Mean of e_c^2 over the steps of a block that starts a sample; float32 [C, ...]."""
    trace = torch.zeros_like(currents[0])
    total = torch.zeros_like(currents[0])
    for current in currents.unbind(0):
        trace = trace * decay + current * gain
        total = total + trace * trace
    return total / len(currents)


def rate_decay(inputs: Tensor, arrived: Tensor, done: int, dt_ms: float, tau: float, rate: float):
    """Decays of a membrane whose time constant follows the rate of its layer's input events.

    Args:
        inputs: [T, B, ...] spikes.
        arrived: [B], events of the samples before the block.
        done: Steps before the block.
        dt_ms: Length of a step.
        tau: Time constant (ms) at ``rate`` events per ms; it falls as the rate rises.

    Returns:
        [T, 1, B, 1, 1, 1], and the events so far.
    """
    so_far = arrived + inputs.flatten(2).sum(2).cumsum(0)
    steps = torch.arange(done + 1, done + 1 + len(inputs)).view(-1, 1)
    tau_ms = tau * rate * (steps * dt_ms) / so_far.clamp_min(1.0)
    return torch.exp(-dt_ms / tau_ms).float()[:, None, :, None, None, None], so_far[-1]
