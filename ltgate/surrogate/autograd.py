"""PyTorch's autograd through :func:`ltgate.neurons.scan`, on any device; the definition.

A layer at a time, its currents of all steps at once. What autograd needs of every step stays in
memory until the slice's gradients are known.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ltgate import neurons
from ltgate.backends.portable import Following, currents, events, options
from ltgate.data.tasks import Schedule
from ltgate.network import Network

NAME = "portable"
SLICE_IMAGES = {"cpu": 1, "cuda": 8}


def available(device: str) -> bool:
    """Every device that PyTorch knows."""
    return device == "cpu" or torch.cuda.is_available()


def counts_of(
    network: Network,
    weights: dict[str, Tensor],
    images: Tensor,
    schedule: Schedule,
    slope: float,
) -> dict[str, Tensor]:
    """Spike counts of each layer [B, channels, height, width], differentiable by ``weights``."""
    first, like = network.layers[0], weights[network.names[0]]
    drive = torch.from_numpy(schedule.drive).to(like).view(-1, 1, 1, 1, 1, 1)
    streamed = images.ndim == 5
    pixels = events(images, schedule.drive) if streamed else network.pixels(images)
    pixels = pixels.to(like)
    counts, spikes = {}, pixels
    for layer in network.layers:
        if layer is first and not streamed:
            current = drive * currents(layer, pixels, weights[layer.name])
        else:
            folded = currents(layer, spikes.flatten(0, 1), weights[layer.name])
            current = folded.unflatten(0, spikes.shape[:2])
        current = current.transpose(1, 2)  # [T, C, B, channels, height, width]
        own = options(network.dynamics, layer, schedule, like.dtype)
        following = Following(network.dynamics, layer, schedule)
        spikes = neurons.scan(
            current,
            torch.zeros_like(current[0]),
            following.block(current.detach(), spikes, own),
            spike=partial(neurons.surrogate, slope=slope),
            **own,
        ).spikes
        counts[layer.name] = spikes.sum(0)
    return counts


def backpropagate(
    network: Network,
    images: Tensor,
    schedule: Schedule,
    top: Callable[[dict[str, Tensor], slice], dict[str, Tensor]],
    slope: float,
    dtype: torch.dtype,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Spike counts and weight gradients; see :func:`ltgate.surrogate.loss_and_gradients`.

    ``top(counts, rows)`` gives the gradients of the loss with respect to the spike counts of the
    images ``rows``, for the layers that have any.
    """
    weights = {
        layer.name: layer.forward_weight.detach().to(dtype).requires_grad_()
        for layer in network.layers
    }
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    shown = []
    size = SLICE_IMAGES[network.layers[0].weight.device.type]
    for begin in range(0, len(images), size):
        part = images[begin : begin + size]
        with torch.enable_grad():
            counts = counts_of(network, weights, part, schedule, slope)
        shown.append({name: count.detach().to(torch.int32) for name, count in counts.items()})
        above = top(shown[-1], slice(begin, begin + len(part)))
        found = torch.autograd.grad(
            [counts[name] for name in above],
            list(weights.values()),
            list(above.values()),
            materialize_grads=True,  # zeros for the layers above the deepest that the loss sees
        )
        for total, gradient in zip(totals.values(), found, strict=True):
            total += gradient
    return {name: torch.cat([counts[name] for counts in shown]) for name in weights}, totals
