r"""The readout on the chip: integer weights on spike counts.

The trained readout scores class k by ``sum_v w_vk . c_v / |c_v| + b_k`` over views v with spike
counts c_v. Deployed::

    A_vk = sum_j q_vkj c_vj          integers: 8-bit weights, one exponent per view
    n_v  = sum_j c_vj^2
    score_k = sum_v 2^-e_v A_vk / sqrt(n_v) + b_k

Counter neurons keep c_v (one synapse per spike) and send it once, at the end of a sample, as graded
spikes to the weights; the 11 numbers per view that remain go to an embedded CPU, which divides by
the norms and takes the largest score. The norms differ between views and samples, so they cannot be
left out; nothing but the division happens off the neuron cores.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ltgate import features

BITS = 8


@dataclass(frozen=True)
class ViewReadout:
    """One view's integers.

    Attributes:
        view: ``conv3``, ``conv1/4``, ...
        weight: int8 [values, classes].
        exponent: e_v.
    """

    view: str
    weight: np.ndarray
    exponent: int


@dataclass(frozen=True)
class QuantReadout:
    """All views, the bias (float64 [classes], of the embedded CPU) and whether norms divide."""

    views: list[ViewReadout]
    bias: np.ndarray
    normalise: bool

    def scores(self, counts: dict[str, Tensor]) -> np.ndarray:
        """Float64 [B, classes] from the layers' spike counts [B, channels, height, width]."""
        total = self.bias
        for part in self.views:
            layer = counts[features.split(part.view)[0]]
            shown = features.view_counts(layer.double(), part.view)
            found = shown @ torch.from_numpy(part.weight).double()  # exact: far below 2^53
            found = found * 2.0**-part.exponent
            if self.normalise:
                found = found / shown.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
            total = total + found.numpy()
        return total


def quantise(weight: Tensor, sizes: dict[str, int], normalise: bool) -> QuantReadout:
    """The readout's weights, float64 [values of all views + 1, classes], in integers.

    ``sizes``: number of values of each view, in order.
    """
    parts, start = [], 0
    for view, size in sizes.items():
        own = weight[start : start + size]
        largest = max(float(own.abs().max()), 1e-30)
        exponent = int(np.floor(np.log2((2 ** (BITS - 1) - 1) / largest)))
        integers = torch.round(own * 2.0**exponent).to(torch.int8).numpy()
        parts.append(ViewReadout(view, integers, exponent))
        start += size
    return QuantReadout(parts, weight[start].double().numpy(), normalise)
