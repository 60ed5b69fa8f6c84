"""Compiled arithmetic of the Lava models. Not beside them: Lava executes every file there."""

import numba
import numpy as np


@numba.njit(
    ["(int32[:, :, :, :], int32[:, :, :, ::1], int64, int64, int32[:, :, :, ::1])"], cache=True
)
def scatter(inputs, weight, stride, padding, total):
    """total[b, y, x] += inputs[b] x weight: work in proportion to inputs that are not zero."""
    _, rows, columns, lanes = total.shape
    for at in np.argwhere(inputs):
        b, y, x, c = at[0], at[1], at[2], at[3]
        for ky in range(weight.shape[0]):
            for kx in range(weight.shape[1]):
                top, left = y + padding - ky, x + padding - kx
                inside = 0 <= top < rows * stride and 0 <= left < columns * stride
                if inside and top % stride == 0 and left % stride == 0:
                    target = total[b, top // stride, left // stride]
                    for lane in range(lanes):
                        target[lane] += inputs[b, y, x, c] * weight[ky, kx, c, lane]


@numba.vectorize(["int64(int32, int32, int64, int64, int64)"], cache=True)
def integrate(v, charge, keep, exponent, limit):
    """A membrane after its decay and what arrived, not yet reset."""
    kept = v * keep >> 12 if v >= 0 else -(-v * keep >> 12)
    added = charge << exponent if exponent >= 0 else charge >> -exponent
    return min(max(kept + added, -limit), limit)
