"""Compiled arithmetic of the Lava models; see :mod:`ltgate.loihi.quantnet` for the equations.

Not beside the processes: Lava's compiler executes every file of their folder.
"""

import numpy as np
from numba import njit

_kernel = njit(cache=True, nogil=True)


@_kernel
def scatter(inputs, weight, stride, padding, total):
    """total[b, y, x, :] += inputs[b, ...] x weight for every input that is not zero.

    ``inputs`` [B, height, width, in], ``weight`` [kernel height, kernel width, in, K x out],
    ``total`` [B, out height, out width, K x out], zeroed here.
    """
    total[:] = 0
    batch, height, width, channels = inputs.shape
    kernel_y, kernel_x, _, lanes = weight.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    value = inputs[b, y, x, c]
                    if value == 0:
                        continue
                    for ky in range(kernel_y):
                        top = y + padding - ky
                        if top < 0 or top % stride or top // stride >= total.shape[1]:
                            continue
                        for kx in range(kernel_x):
                            left = x + padding - kx
                            if left < 0 or left % stride or left // stride >= total.shape[2]:
                                continue
                            target = total[b, top // stride, left // stride]
                            row = weight[ky, kx, c]
                            for lane in range(lanes):
                                target[lane] += value * row[lane]


@_kernel
def advance(membrane, charge, keep, exponent, theta, gate, blend, subtract, limit, spikes):
    """One step of the bit-accurate neuron, in place.

    ``membrane`` and ``charge`` int32 [n, K x out], ``keep`` and ``exponent`` int64 [K], ``theta``
    int64 [1 or K, out], ``gate`` int64 [out], ``spikes`` int8 [n, out].
    """
    compartments, channels = keep.size, gate.size
    for n in range(membrane.shape[0]):
        for c in range(channels):
            spikes[n, c] = 0
        for k in range(compartments):
            for c in range(channels):
                at = k * channels + c
                v = np.int64(membrane[n, at])
                v = (v * keep[k]) >> 12 if v >= 0 else -((-v * keep[k]) >> 12)
                a, e = np.int64(charge[n, at]), exponent[k]
                v += a << e if e >= 0 else a >> -e  # floor(a 2^e)
                v = min(max(v, -limit), limit)
                if not blend and v >= theta[k, c]:
                    spikes[n, c] = 1
                    v = v - theta[k, c] if subtract else np.int64(0)
                membrane[n, at] = v
        if blend:
            for c in range(channels):
                fast, slow = np.int64(membrane[n, c]), np.int64(membrane[n, channels + c])
                if gate[c] * fast + (128 - gate[c]) * slow >= 128 * theta[0, c]:
                    spikes[n, c] = 1
                    membrane[n, c] = fast - theta[0, c] if subtract else 0
                    membrane[n, channels + c] = slow - theta[0, c] if subtract else 0


def warm() -> None:
    """Compile now, so that processes forked later need not."""
    spikes, total = np.zeros((1, 1, 1, 1), np.int8), np.zeros((1, 1, 1, 1), np.int32)
    for inputs in (spikes, total):
        scatter(inputs, np.zeros((1, 1, 1, 1), np.int32), 1, 0, total)
    one = np.ones(1, np.int64)
    flat = np.zeros((1, 1), np.int32)
    advance(flat, flat, one, one, one[None], one, False, True, 1, spikes[0, 0])
