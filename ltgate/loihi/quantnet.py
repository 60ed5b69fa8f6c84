r"""A network in the chip's integers: what the twin, Lava, the mapping and the estimate all read.

Per compartment c and step of 1 ms, with integer inputs x (pixel bytes or spikes)::

    a_c = floor(2^e_c sum_j q_cj x_j)
    v_c <- clip(trunc(v_c (4096 - d_c) / 4096) + a_c, +-(2^23 - 1))

    or      s_c = v_c >= theta_c;                                   spike = s_fast or s_slow
    blend   spike = g v_fast + (128 - g) v_slow >= 128 theta

A spike takes theta off its compartment, or sets it to zero; with ``blend`` one spike resets both.
State starts at zero for every sample. ``trunc`` is sign(v) (|v| (4096 - d) >> 12).
"""

from dataclasses import dataclass

import numpy as np

from ltgate.fixed_point import MEMBRANE_LIMIT
from ltgate.network import KERNEL
from ltgate.neurons import Options


@dataclass
class QuantLayer:
    """One layer in integers; K compartments.

    Attributes:
        name: As in the float network.
        stride: Of a 3x3 convolution; 0 marks a dense layer.
        padding: 0 or 1; 0 for a dense layer.
        in_shape, out_shape: (channels, height, width).
        weight: int8 [K, out, in, 3, 3] or [K, out, in].
        exponent: int [K], e_c: scales the summed weights into the membrane's unit.
        threshold: theta, int64 [K, out] (``or``) or [1, out] (``blend``): a mantissa of 17 bits
            each, as lava.proc.lif has it, and one shift a row.
        gate: int [out], g, 0 to 128.
    """

    name: str
    stride: int
    padding: int
    in_shape: tuple[int, int, int]
    out_shape: tuple[int, int, int]
    weight: np.ndarray
    exponent: np.ndarray
    threshold: np.ndarray
    gate: np.ndarray

    @property
    def is_conv(self) -> bool:
        """Whether this is a convolution."""
        return self.stride > 0

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.out_shape))

    def fan_out(self) -> np.ndarray:
        """Output positions that an input position reaches, int64 [height, width] of the input.

        Times K x out it is the number of synaptic operations that one spike there causes.
        """
        _, height, width = self.in_shape
        if not self.is_conv:
            return np.ones((height, width), np.int64)

        def reached(size: int, out: int) -> np.ndarray:
            taken = np.zeros(size, np.int64)
            for place in range(out):
                begin = place * self.stride - self.padding
                taken[max(begin, 0) : begin + KERNEL] += 1
            return taken

        return np.outer(reached(height, self.out_shape[1]), reached(width, self.out_shape[2]))


@dataclass
class QuantNetwork(Options):
    """Layers in order and what all of them share.

    Attributes:
        decay: 12-bit d of each compartment, int [K].
        output: ``or`` or ``blend``.
        reset: ``subtract`` or ``zero``.
        weight_bits: Bits of a weight, 2 to 8.
        limit: Where membranes saturate.
    """

    layers: list[QuantLayer]
    decay: np.ndarray
    output: str = "or"
    reset: str = "subtract"
    weight_bits: int = 8
    limit: int = MEMBRANE_LIMIT

    @property
    def compartments(self) -> int:
        """Number K of compartments."""
        return len(self.decay)

    @property
    def names(self) -> list[str]:
        """Names of the layers in order."""
        return [layer.name for layer in self.layers]
