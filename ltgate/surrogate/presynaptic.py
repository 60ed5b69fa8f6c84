"""What a layer's weights see: mean presynaptic rates, and their patches.

A gradient of a layer's weights lies in the span of its inputs' patches; so projections that protect
earlier tasks (HLOP: Xiao et al. 2024) are learned from these and applied to gradients
``flatten(2)``, whose last axis runs over the same entries.
"""

import torch
from torch import Tensor

from ltgate.data.tasks import Schedule
from ltgate.network import KERNEL, Layer, Network


def rates(
    network: Network, images: Tensor, counts: dict[str, Tensor], schedule: Schedule
) -> dict[str, Tensor]:
    """Mean input of each layer per step: float32 [B, channels, height, width] by layer name.

    For the first layer that is the mean pixel current, for the others spikes per step.

    Args:
        network: The network that made ``counts``.
        images: As :func:`ltgate.backends.forward` takes them.
        counts: Spike counts by layer, as in :class:`ltgate.surrogate.Gradients`.
        schedule: What the images were shown with.
    """
    inputs = [network.pixels(images) * float(schedule.drive.mean())]
    inputs += [counts[name].float() / len(schedule) for name in network.names[:-1]]
    return dict(zip(network.names, inputs, strict=True))


def patches(layer: Layer, inputs: Tensor) -> Tensor:
    """Inputs [B, channels, height, width] of a layer as its neurons see them.

    Returns:
        [B * positions, in * 9] for a convolution, [B, in] for a dense layer, such that
        ``patches @ weight[c].flatten(1).T`` are the currents of compartment c.
    """
    if not layer.is_conv:
        return inputs.flatten(1)
    unfolded = torch.nn.functional.unfold(inputs, KERNEL, padding=1, stride=layer.stride)
    return unfolded.transpose(1, 2).flatten(0, 1)
