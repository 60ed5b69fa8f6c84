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

Two engines: ``portable`` is PyTorch's autograd through :func:`ltgate.neurons.scan`, on any device,
and defines the result; :mod:`~ltgate.surrogate.compiled` does by hand what the equations say, on
CPUs.

Sources: Neftci, Mostafa & Zenke 2019 (surrogate gradients); Zenke & Ganguli 2018 (fast sigmoid).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ltgate import backends, neurons
from ltgate.backends.portable import Following, currents, events, in_time, options
from ltgate.data.tasks import Schedule
from ltgate.errors import UserError
from ltgate.network import Network
from ltgate.surrogate import compiled

SLICE_IMAGES = {"cpu": 1, "cuda": 8}
SLICE_NEURONS = 2**13  # of all streams of a slice, where it may be larger: steps cost, not neurons


class LinearHead(nn.Module):
    """Cross-entropy of each image, among some classes, of a linear map of its spike counts.

    Attributes:
        weight: [inputs, classes].
        inputs: What the map reads, [B, inputs], of the spike counts [B, ...] by layer.
        among: The classes that compete.
    """

    def __init__(
        self, weight: Tensor, inputs: Callable[[dict[str, Tensor]], Tensor], among: list[int]
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.inputs = inputs
        self.register_buffer("among", torch.tensor(among, device=weight.device))

    @classmethod
    def drawn(
        cls, sizes: dict[str, int], classes: int, generator: np.random.Generator
    ) -> "LinearHead":
        """Reads the L2-normalised counts of the layers named, of so many neurons each.

        float32 weights, uniform in +-1 / sqrt(inputs).
        """
        bound = sum(sizes.values()) ** -0.5
        weight = generator.uniform(-bound, bound, (sum(sizes.values()), classes))

        def inputs(counts: dict[str, Tensor]) -> Tensor:
            return torch.cat([functional.normalize(counts[x].flatten(1), dim=1) for x in sizes], 1)

        return cls(torch.from_numpy(weight.astype(np.float32)), inputs, list(range(classes)))

    def forward(self, counts: dict[str, Tensor], labels: Tensor) -> Tensor:
        """[B], from the spike counts of each layer."""
        scores = (self.inputs(counts) @ self.weight)[:, self.among]
        target = labels[:, None] == self.among
        return -(scores.log_softmax(1) * target).sum(1)


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
        engine: ``auto``, ``compiled`` or ``portable``.
        dtype: float32, which gives the spikes of the backends, or float64, to check gradients.

    Raises:
        NotFinite: A weight, threshold or gate is NaN or infinite.
        UserError: The images do not fit the network, or the engine is unknown or cannot run there.
    """
    backends.check(network)
    device = network.layers[0].weight.device
    images = backends.fitting(network, images, schedule.drive)
    able = {"portable": backpropagate}
    if compiled.takes(device.type, network.dynamics, images.ndim == 5):
        able = {"compiled": compiled.backpropagate, **able}
    if engine not in ("auto", *able):
        raise UserError(
            f"engine: {engine!r} cannot run on {device.type!r}; able here: auto, {', '.join(able)}"
        )
    run = able.get(engine, next(iter(able.values())))
    losses = _Losses(head, torch.as_tensor(labels).to(device), dtype)
    counts, weights = run(network, images, schedule, losses.top, slope, dtype)
    return Gradients(losses.mean(), weights, losses.gradients(), counts)


class _Losses:
    """The head's losses and gradients, taken down slice by slice, in any order."""

    def __init__(self, head: nn.Module, labels: Tensor, dtype: torch.dtype) -> None:
        self.head, self.labels, self.dtype = head, labels, dtype
        self.parameters = dict(head.named_parameters())
        self.parts: dict[int, tuple[float, tuple[Tensor, ...]]] = {}

    def top(self, counts: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
        """Take down the loss of the images ``rows``; its gradients by their spike counts."""
        inputs = {name: count.to(self.dtype).requires_grad_() for name, count in counts.items()}
        with torch.enable_grad():
            loss = self.head(inputs, self.labels[rows]).sum() / len(self.labels)
            wanted = [*inputs.values(), *self.parameters.values()]
            found = torch.autograd.grad(loss, wanted, materialize_grads=True)  # 0 where not seen
        self.parts[rows.start] = loss.item(), found[len(inputs) :]
        return dict(zip(inputs, found, strict=False))

    def mean(self) -> float:
        """Mean loss of all images; slices are added in their order."""
        return sum(self.parts[begin][0] for begin in sorted(self.parts))

    def gradients(self) -> dict[str, Tensor]:
        """Those of the head's parameters, by name."""
        found = [self.parts[begin][1] for begin in sorted(self.parts)]
        return dict(zip(self.parameters, map(sum, zip(*found, strict=True)), strict=True))


# ---- the engine ``portable``: a layer at a time, its currents of all steps at once


def backpropagate(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    top: Callable[[dict[str, Tensor], slice], dict[str, Tensor]],
    slope: float,
    dtype: torch.dtype,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Spike counts and weight gradients; what every engine offers.

    ``top(counts, rows)`` gives the gradients of the loss by the spike counts of the images ``rows``
    in every layer. What autograd needs of every step stays in memory until a slice is done.
    """
    weights = {
        layer.name: layer.forward_weight.detach().to(dtype).requires_grad_()
        for layer in network.layers
    }
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    shown = []
    size = SLICE_IMAGES[network.layers[0].weight.device.type]
    if images.ndim == 5:
        size = max(size, SLICE_NEURONS // sum(layer.neurons for layer in network.layers))
    for begin in range(0, len(images), size):
        part = images[begin : begin + size]
        with torch.enable_grad():
            counts = _counts(network, weights, part, schedule, slope)
        shown.append({name: count.detach().to(torch.int32) for name, count in counts.items()})
        above = top(shown[-1], slice(begin, begin + len(part)))
        wanted = [above[name] for name in counts]
        found = torch.autograd.grad(list(counts.values()), list(weights.values()), wanted)
        for total, gradient in zip(totals.values(), found, strict=True):
            total += gradient
    return {name: torch.cat([counts[name] for counts in shown]) for name in weights}, totals


def _counts(
    network: Network, weights: dict[str, Tensor], images: Tensor, schedule: Schedule, slope: float
) -> dict[str, Tensor]:
    """Spike counts of each layer [B, channels, height, width], differentiable by ``weights``."""
    like = weights[network.names[0]]
    drive = torch.from_numpy(schedule.drive).to(like).view(-1, 1, 1, 1, 1, 1)
    streamed = images.ndim == 5
    inputs = (events(images, schedule.drive) if streamed else network.pixels(images)).to(like)
    counts = {}
    for layer in network.layers:
        weight = weights[layer.name]
        if inputs.ndim == 4:  # pixels
            current = (drive * currents(layer, inputs, weight)).transpose(1, 2)
        else:
            current = in_time(layer, inputs, weight)
        own = options(network.dynamics, layer, schedule, like.dtype)
        following = Following(network.dynamics, layer, schedule)
        inputs = neurons.scan(
            current,
            torch.zeros_like(current[0]),
            following.block(current.detach(), inputs, own),
            spike=partial(neurons.surrogate, slope=slope),
            **own,
        ).spikes
        counts[layer.name] = inputs.sum(0)
    return counts
