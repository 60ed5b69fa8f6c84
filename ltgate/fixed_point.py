r"""Number formats of Loihi 2: what a weight, a decay and a membrane can be on the chip.

* weight: a signed integer of 2 to 8 bits times 2^-k, k shared by a layer (here k <= 10, so that
  every value lies on the 2^-10 grid on which the network is exact);
* decay: 12 bits, ``v <- v (4096 - d) / 4096`` per step of 1 ms, rounded towards zero;
* membrane: 24 bits with sign, saturating at +-(2^23 - 1).

Sources: lava-nc 0.10 (``lava.proc.lif``, ``lava.proc.dense``, bit-accurate models); Davies et al.,
IEEE Micro 38(1), 2018.
"""

import math

import torch
from torch import Tensor

DECAY_ONE = 4096
MEMBRANE_LIMIT = 2**23 - 1
LARGEST_EXPONENT = 10


def decay(tau_ms: float) -> int:
    """The 12-bit decay d of a time constant, for steps of 1 ms: exp(-1/tau) ~ (4096 - d) / 4096."""
    return min(max(round(DECAY_ONE * (1 - math.exp(-1 / tau_ms))), 1), DECAY_ONE - 1)


def effective_tau(tau_ms: float) -> float:
    """The time constant (ms) that :func:`decay` stands for; its exp(-1/tau) is (4096 - d)/4096."""
    return -1 / math.log1p(-decay(tau_ms) / DECAY_ONE)


def largest_weight(bits: int) -> float:
    """The largest weight below 2 that ``bits`` bits can give."""
    return (2 ** (bits - 1) - 1) * 2.0 ** (2 - bits)


def weight_exponent(weight: Tensor, bits: int) -> int:
    """The largest k <= 10 for which every round(w 2^k) fits into ``bits`` bits with its sign."""
    largest = float(weight.abs().max())
    limit = 2 ** (bits - 1) - 1
    k = LARGEST_EXPONENT
    while round(largest * 2.0**k) > limit:
        k -= 1
    return k


def weight_integers(weight: Tensor, bits: int) -> tuple[Tensor, int]:
    """Integers q (int8) and exponent k with w ~ q 2^-k."""
    k = weight_exponent(weight, bits)
    return torch.round(weight * 2.0**k).to(torch.int8), k


def round_weights(weight: Tensor, bits: int) -> Tensor:
    """The weights as ``bits`` bits on the chip can give them; same shape and type."""
    integers, k = weight_integers(weight, bits)
    return integers.to(weight) * 2.0**-k
