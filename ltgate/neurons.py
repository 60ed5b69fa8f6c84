r"""Leaky integrate-and-fire neurons with one or two compartments.

Every compartment c integrates its own current and decays with its own time constant::

    v_c[t] = a_c v_c[t-1] + g_c I_c[t],      a_c = exp(-dt / tau_c)

``current = raw`` takes g_c = 1; ``current = normalised`` takes g_c = 1 - exp(-charge / tau_c), so a
constant current ends at the same membrane whatever dt. Two outputs::

    or      s_c = 1 if v_c >= theta_c;                        spike = s_fast or s_slow
    blend   spike = 1 if gamma v_fast + (1 - gamma) v_slow >= theta,   gamma in [0, 1]

With more than two compartments, or a gate that follows the sample (:mod:`ltgate.timescale`), the
blend is sum gamma_c v_c with weights that sum to 1.

A spike takes theta off its compartment (``reset = subtract``) or sets it to zero (``zero``); with
``blend`` the one spike resets both compartments. In ``or`` each compartment resets by its own s_c.
A new neuron is one function of the membranes and one entry in ``OUTPUTS``.

Times are milliseconds; membranes, currents and thresholds share one unit. The functions are pure:
state goes in and comes out. Multiplications and additions are separate operations in a fixed order
(no multiply-add contraction), so that every backend rounds alike.

Sources: Tiwari & Chauhan 2025 (arXiv 2510.12843), abstract (``blend``) and published code (``or``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from ltgate.declare import Group, OneOf, Positive


class Options:
    """What the options of a neuron decide; :class:`Dynamics` and the chip's network have them."""

    output: str
    reset: str
    compartments: int

    @property
    def blended(self) -> bool:
        """Whether one comparison of the blended membranes decides, and resets all."""
        return self.output == "blend" and self.compartments > 1

    @property
    def subtracts(self) -> bool:
        """Whether a spike takes theta off its membrane, rather than setting it to zero."""
        return self.reset == "subtract"


@dataclass(frozen=True)
class Dynamics(Options):
    """The options of the neuron's equation, the same for every layer.

    Attributes:
        tau_ms: Time constant of each compartment in ms, fast first: (5, 100) or a single one.
        output: A name in ``OUTPUTS``.
        current: ``raw`` or ``normalised``.
        reset: ``subtract`` or ``zero``.
        follows: A name in the table of :mod:`ltgate.timescale`.
    """

    tau_ms: tuple[float, ...] = (5.0, 100.0)
    output: str = "or"
    current: str = "raw"
    reset: str = "subtract"
    follows: str = "nothing"

    def __repr__(self) -> str:
        also = "" if self.follows == "nothing" else f", follows={self.follows!r}"
        return (
            f"Dynamics(tau_ms={self.tau_ms!r}, output={self.output!r}, current={self.current!r}, "
            f"reset={self.reset!r}{also})"
        )

    @property
    def compartments(self) -> int:
        """Number C of compartments."""
        return len(self.tau_ms)

    @property
    def thresholds(self) -> int:
        """Comparisons with a threshold in one neuron: C for ``or``, 1 for ``blend``."""
        return 1 if self.blended else self.compartments

    def decay(self, dt_ms: float) -> np.ndarray:
        """a_c = exp(-dt / tau_c) for a step of ``dt_ms``; float32 [C]."""
        return np.exp(-dt_ms / np.array(self.tau_ms)).astype(np.float32)

    def gain(self, charge_ms: float) -> np.ndarray:
        """g_c, the factor on the current of one step; float32 [C].

        ``charge_ms`` is the time for which one frame or spike stands: the step, except under the
        ``pulse`` presentation, where one step carries the charge of a whole frame.
        """
        if self.current == "raw":
            return np.ones(self.compartments, np.float32)
        return (1.0 - np.exp(-charge_ms / np.array(self.tau_ms))).astype(np.float32)


class _FastSigmoid(torch.autograd.Function):
    """Heaviside step forward, derivative of a fast sigmoid backward (Zenke & Ganguli 2018)."""

    @staticmethod
    def forward(context, membrane: Tensor, threshold: Tensor, slope: float) -> Tensor:
        context.save_for_backward(membrane - threshold)
        context.shape, context.slope = threshold.shape, slope
        return heaviside(membrane, threshold)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (distance,) = context.saved_tensors
        along = gradient / (1.0 + context.slope * distance.abs()) ** 2
        learned = context.needs_input_grad[1]
        return along, -along.sum_to_size(context.shape) if learned else None, None


def heaviside(membrane: Tensor, threshold: Tensor) -> Tensor:
    """1 where the membrane has reached the threshold, else 0; same dtype as the membrane."""
    return (membrane >= threshold).to(membrane.dtype)


def surrogate(membrane: Tensor, threshold: Tensor, slope: float = 10.0) -> Tensor:
    """:func:`heaviside` with the surrogate derivative 1 / (1 + slope |v - theta|)^2."""
    return _FastSigmoid.apply(membrane, threshold, slope)


def either(
    membrane: Tensor, threshold: Tensor, gate: Tensor | None, spike: Callable
) -> tuple[Tensor, Tensor, Tensor]:
    """``or``: a compartment crosses by itself and resets itself."""
    crossed = spike(membrane, threshold)
    return crossed, crossed.amax(0), crossed


def blended(
    membrane: Tensor, threshold: Tensor, gate: Tensor | None, spike: Callable
) -> tuple[Tensor, Tensor, Tensor]:
    """``blend``: the membranes, weighed by the gate, cross one threshold and reset together."""
    if membrane.shape[0] < 2:
        return either(membrane, threshold, gate, spike)
    weights = gate if gate.ndim == membrane.ndim else (gate, 1.0 - gate)
    blend = weights[0] * membrane[0]
    for weight, other in zip(weights[1:], membrane[1:], strict=True):
        blend = blend + weight * other
    spikes = spike(blend, threshold[0])
    return spike(membrane, threshold), spikes, spikes.unsqueeze(0)


# name -> function(membrane [C, ...], threshold, gate, spike) that gives compartments that have
# crossed [C, ...], the neuron's spikes [...], and what resets which compartment [C or 1, ...].
# Compiled backends know the first two; the others run on ``portable``.
OUTPUTS: dict[str, Callable[..., tuple[Tensor, Tensor, Tensor]]] = {
    "or": either,
    "blend": blended,
}
COMPILED = ("or", "blend")


class NeuronParameters(Group):
    """Neurons."""

    compartments: Literal["dual", "fast", "slow"] = "dual"
    """membrane compartments of a neuron"""
    tau_fast_ms: Positive = 5.0
    """time constant of the fast compartment (ms)"""
    tau_slow_ms: Positive = 100.0
    """time constant of the slow compartment (ms)"""
    output: Annotated[str, OneOf(OUTPUTS)] = "or"
    """spike of a neuron: or (either compartment's), blend (of the blended membranes), or another of
    ltgate.neurons.OUTPUTS"""
    current: Literal["raw", "normalised"] = "raw"
    """input current as it is, or scaled by 1 - exp(-dt/tau)"""
    reset: Literal["subtract", "zero"] = "subtract"
    """membrane after a spike"""

    @model_validator(mode="after")
    def _fast_below_slow(self) -> Self:
        if self.compartments == "dual" and self.tau_fast_ms >= self.tau_slow_ms:
            raise ValueError(
                f"tau_fast_ms = {self.tau_fast_ms:g}: must be below tau_slow_ms = "
                f"{self.tau_slow_ms:g} when compartments is 'dual'"
            )
        return self


class TimescaleParameters(Group, since="0.2"):
    """Timescales of a neuron."""

    taus_ms: list[Positive] = []
    """time constants of the compartments (ms), fast first, instead of the two above"""
    follows: Literal["nothing", "neuron", "layer", "rate", "own", "cue"] = "nothing"
    """what a neuron's timescale follows within a sample: see ltgate.timescale"""

    def taus(self) -> list[float]:
        """Time constants of the compartments (ms), fast first."""
        fast, slow = [self.tau_fast_ms], [self.tau_slow_ms]
        named = {"dual": fast + slow, "fast": fast, "slow": slow}
        return self.taus_ms or named[self.compartments]

    @model_validator(mode="after")
    def _possible_timescales(self) -> Self:
        if self.taus_ms != sorted(set(self.taus_ms)):
            raise ValueError(f"taus_ms = {self.taus_ms}: must rise")
        number = len(self.taus())
        if self.follows in ("neuron", "layer", "cue") and (self.output != "blend" or number < 2):
            raise ValueError(
                f"follows = {self.follows!r}: needs output 'blend' and two compartments or more"
            )
        if self.follows in ("rate", "own") and number != 1:
            raise ValueError(f"follows = {self.follows!r}: needs one compartment")
        if number > 2 and self.output == "blend" and self.follows not in ("neuron", "layer"):
            raise ValueError(
                f"taus_ms = {self.taus_ms}: more than two compartments blend where follows is "
                "'neuron' or 'layer'"
            )
        return self


class Step(NamedTuple):
    """What one time step leaves.

    Attributes:
        membrane: [C, ...] after the reset.
        crossed: [C, ...] 0/1, compartments at or above the threshold before the reset.
        spikes: [...] 0/1, the neuron's output.
    """

    membrane: Tensor
    crossed: Tensor
    spikes: Tensor


def step(
    membrane: Tensor,
    current: Tensor,
    decay: Tensor,
    gain: Tensor,
    threshold: Tensor,
    gate: Tensor | None = None,
    output: str = "or",
    reset: str = "subtract",
    spike: Callable[[Tensor, Tensor], Tensor] = heaviside,
) -> Step:
    """One step of the equation at the head of this module.

    Args:
        membrane: [C, ...] before the step.
        current: [C, ...] the summed weights of the inputs in this step.
        decay: a_c, [C, 1, ...], broadcastable to ``membrane``.
        gain: g_c, likewise.
        threshold: theta, [C, ...] (``or``) or [1, ...] (``blend``), broadcastable.
        gate: gamma, broadcastable to ``membrane[0]``, or the weights [C, ...] of all compartments;
            needed by ``blend``.
        output: A name in ``OUTPUTS``.
        reset: ``subtract`` or ``zero``.
        spike: :func:`heaviside`, or :func:`surrogate` for training by gradients.
    """
    membrane = membrane * decay
    membrane = membrane + current * gain
    crossed, spikes, resetting = OUTPUTS[output](membrane, threshold, gate, spike)
    if reset == "subtract":
        membrane = membrane - resetting.detach() * threshold
    else:
        membrane = membrane * (1.0 - resetting.detach())
    return Step(membrane, crossed, spikes)


class Trace(NamedTuple):
    """A scan's record over time: membranes after the reset, crossings, spikes and the end state."""

    membrane: Tensor
    crossed: Tensor
    spikes: Tensor
    end: Tensor


def scan(
    currents: Tensor, membrane: Tensor, changing: dict[str, Tensor] | None = None, **options
) -> Trace:
    """Run :func:`step` over the first axis of ``currents`` [T, C, ...] from ``membrane`` [C, ...].

    ``options`` are those of :func:`step`; ``changing`` holds those that change, [T, ...]. Returns
    membranes and crossings [T, C, ...], spikes [T, ...] and the final membrane. For whole networks
    use :mod:`ltgate.backends`, which fold time.
    """
    steps = []
    for number, current in enumerate(currents.unbind(0)):
        now = {name: values[number] for name, values in (changing or {}).items()}
        steps.append(step(membrane, current, **{**options, **now}))
        membrane = steps[-1].membrane
    membranes, crossed, spikes = (torch.stack(field) for field in zip(*steps, strict=True))
    return Trace(membranes, crossed, spikes, membrane)
