r"""Loss and gradients of a spiking network by backpropagation through time.

Forward, the network is the one of :mod:`ltgate.backends`, spike for spike. Backward, with the
surrogate derivative h(d) = 1 / (1 + slope |d|)^2 of :func:`ltgate.neurons.surrogate` and G[t] the
gradient of the loss with respect to a neuron's spike at step t::

    or      dv_c[t] = share_c[t] h(v_c[t] - theta_c) G[t] + a_c keep_c[t] dv_c[t+1]
    blend   dv_c[t] = gamma_c h(u[t] - theta) G[t] + a_c keep[t] dv_c[t+1]

with u = gamma v_fast + (1 - gamma) v_slow, gamma_fast = gamma and gamma_slow = 1 - gamma. The
gradient of the currents is dI_c = g_c dv_c.

* share_c is the gradient of a maximum, spike = max_c s_c: all of it goes to the compartment that
  crossed its threshold; where both did, or neither, each gets half.
* The reset is detached: keep = 1 for ``subtract``; for ``zero`` keep = 1 - s (a reset membrane
  hands nothing on).
* Weights are on their grid in the forward pass; the gradient is taken there and meant for the
  full-precision copy (straight through rounding and clipping).

Two engines: :mod:`~ltgate.surrogate.autograd` differentiates the neuron's own step and defines the
result; :mod:`~ltgate.surrogate.compiled` does by hand what the equations say, on CPUs.

Sources: Neftci, Mostafa & Zenke 2019 (surrogate gradients); Zenke & Ganguli 2018 (fast sigmoid).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ltgate import backends
from ltgate.data.tasks import Schedule
from ltgate.errors import UserError
from ltgate.network import Network
from ltgate.surrogate import autograd, compiled

ENGINES = (compiled, autograd)


@dataclass
class Gradients:
    """What one batch of B images gives.

    Attributes:
        loss: Mean over the images.
        weights: Gradient of the loss by layer, shaped like the layer's weights.
        head: The same for the head, by name of its parameter.
        counts: Spikes of each neuron over all steps, by layer, int32 [B, channels, height, width].
    """

    loss: float
    weights: dict[str, Tensor]
    head: dict[str, Tensor]
    counts: dict[str, Tensor]


def loss_and_gradients(
    network: Network,
    images: np.ndarray | Tensor,
    labels: np.ndarray | Tensor,
    schedule: Schedule,
    head: nn.Module,
    slope: float = 10.0,
    engine: str = "auto",
    dtype: torch.dtype = torch.float32,
) -> Gradients:
    """Loss of a batch and its gradients; nothing is changed.

    The batch is worked on in slices, whose gradients are added up in their order: memory does not
    grow with B, and the result does not depend on the number of threads.

    Args:
        network: What to train; its weights' device is where to run.
        images: As :func:`ltgate.backends.forward` takes them.
        labels: [B], given to the head as they are.
        schedule: Steps, dt and drive of the presentation.
        head: ``head(counts, labels)`` with the spike counts of each layer, [b, channels, height,
            width] of ``dtype``, returns one loss per image, [b], that depends on this image alone.
            It may look at several layers (to penalise rates, say). See :class:`LinearHead`.
        slope: Steepness of the surrogate derivative.
        engine: ``auto``, or the name of one of ``ENGINES``.
        dtype: float32, which gives the spikes of the backends, or float64, to check gradients.

    Raises:
        NotFinite: A weight, threshold or gate is NaN or infinite.
        UserError: The images do not fit the network, the engine is unknown or cannot run there, or
            the head uses no spike count.
    """
    backends.check(network)
    device = network.layers[0].weight.device
    images = backends.fitting(network, images, schedule.drive)
    labels = torch.as_tensor(labels).to(device)
    losses = _Losses(head, labels, dtype)
    counts, weights = _choose(engine, device.type, network, images).backpropagate(
        network, images, schedule, losses.top, slope, dtype
    )
    return Gradients(losses.mean(), weights, losses.gradients(), counts)


class _Losses:
    """The head's losses and gradients, taken down slice by slice, in any order."""

    def __init__(self, head: nn.Module, labels: Tensor, dtype: torch.dtype) -> None:
        self.head, self.labels, self.dtype = head, labels, dtype
        self.parameters = dict(head.named_parameters())
        self.parts: dict[int, tuple[float, tuple[Tensor, ...]]] = {}

    def top(self, counts: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
        """Take down the loss of some images; the gradients of the spike counts it depends on."""
        inputs = {name: count.to(self.dtype).requires_grad_() for name, count in counts.items()}
        with torch.enable_grad():
            loss = self.head(inputs, self.labels[rows]).sum() / len(self.labels)
            if not loss.requires_grad:
                raise UserError("head: its loss depends on no spike count and no parameter")
            wanted = [*inputs.values(), *self.parameters.values()]
            found = torch.autograd.grad(loss, wanted, allow_unused=True)
        own = zip(self.parameters.values(), found[len(inputs) :], strict=True)
        zeros = torch.zeros_like
        self.parts[rows.start] = loss.item(), [zeros(p) if g is None else g for p, g in own]
        pairs = zip(inputs, found, strict=False)
        used = {name: gradient for name, gradient in pairs if gradient is not None}
        if not used:
            raise UserError(f"head: its loss uses none of the layers {', '.join(inputs)}")
        return used

    def mean(self) -> float:
        """Mean loss of all images; slices are added in their order."""
        return sum(self.parts[begin][0] for begin in sorted(self.parts))

    def gradients(self) -> dict[str, Tensor]:
        """Those of the head's parameters, by name."""
        found = [self.parts[begin][1] for begin in sorted(self.parts)]
        return dict(zip(self.parameters, map(sum, zip(*found, strict=True)), strict=True))


def _choose(engine: str, device: str, network: Network, images: Tensor):
    for module in ENGINES:
        takes = getattr(module, "takes", lambda *_: True)(network.dynamics, images.ndim == 5)
        if engine in ("auto", module.NAME) and module.available(device) and takes:
            return module
    names = ", ".join(module.NAME for module in ENGINES)
    raise UserError(f"engine: {engine!r} cannot run on {device!r}; known here: auto, {names}")
