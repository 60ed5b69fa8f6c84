r"""From a trained float network to the chip's integers, with a report of what that cost.

Weights take ``bits`` bits and one exponent per layer. Each compartment's membrane gets the finest
unit 2^-u at which the largest |v| on the calibration samples keeps ``HEADROOM`` bits below
saturation: a wide run of the integer network shows it. Thresholds are rounded to that unit and
split into a mantissa of 17 bits and a shift.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from ltgate import backends, fixed_point
from ltgate.data.tasks import Schedule
from ltgate.errors import UserError
from ltgate.loihi import twin
from ltgate.loihi.quantnet import MANTISSA_BITS, QuantLayer, QuantNetwork
from ltgate.network import GATE_STEPS, Layer, Network
from ltgate.neurons import COMPILED

HEADROOM = 1
_PIXEL_BITS = 8  # a pixel is byte / 256; an event is 1
_WIDE_UNIT = 20  # of the calibration run: fine, and every product stays below 2^53
_WIDE_LIMIT = 2**40
LARGEST_UNIT = 24


@dataclass(frozen=True)
class Samples:
    """Training images of one task, to calibrate on.

    Attributes:
        images: As :func:`ltgate.backends.forward` takes them.
        steps: Their clock; ``pulse``, with steps of 1 ms.
    """

    images: np.ndarray
    steps: Schedule


def quantise(network: Network, samples: Sequence[Samples], bits: int = 8) -> QuantNetwork:
    """The network in integers.

    Raises `UserError` for what one chip with one clock cannot do: ``normalised`` current (its gain
    would change with the frame rate), a neuron of your own, or another presentation than ``pulse``.
    """
    _deployable(network, samples)
    compartments = network.dynamics.compartments
    input_bits = _PIXEL_BITS * (samples[0].images.ndim < 5)
    wide = _network(
        network, bits, [[_WIDE_UNIT] * compartments for _ in network.layers], input_bits
    )
    wide.limit = _WIDE_LIMIT
    runs = [twin.forward(wide, s.images, s.steps.drive) for s in samples]
    units = []
    for layer in wide.layers:
        peak = np.max([run.peaks[layer.name] for run in runs], axis=0)
        peak = np.maximum(peak, layer.threshold.max(1))
        room = fixed_point.MEMBRANE_LIMIT / 2**HEADROOM / peak
        unit = np.minimum(_WIDE_UNIT + np.floor(np.log2(room)).astype(int), LARGEST_UNIT)
        units.append(np.full_like(unit, unit.min()) if wide.blended else unit)
    return _network(network, bits, units, input_bits).check()


def _deployable(network: Network, samples: Sequence[Samples]) -> None:
    if network.dynamics.current != "raw":
        raise UserError(
            f"current={network.dynamics.current!r}: on the chip its gain would change with the "
            "frame rate; train with current='raw'"
        )
    if network.dynamics.output not in COMPILED:
        raise UserError(
            f"output={network.dynamics.output!r}: the integer neurons (ltgate/loihi/twin, "
            "ltgate/loihi/lava_backend) know or | blend"
        )
    if network.dynamics.follows != "nothing" or network.dynamics.compartments > 2:
        raise UserError(
            f"follows={network.dynamics.follows!r} with {network.dynamics.compartments} "
            "compartments: the integer neurons know gates that stay, and one or two compartments"
        )
    for steps in (s.steps for s in samples):
        if steps.name != "pulse":
            raise UserError(
                f"presentation={steps.name!r}: the chip has one clock; deployment needs 'pulse'"
            )


def _network(
    network: Network, bits: int, units: Sequence[Sequence[int]], input_bits: int
) -> QuantNetwork:
    """In integers, with 2^unit membranes to a float unit; ``units`` per layer and compartment."""
    dynamics = network.dynamics
    layers = []
    for number, (layer, unit) in enumerate(zip(network.layers, units, strict=True)):
        layers.append(_layer(layer, bits, np.array(unit), input_bits * (number == 0)))
    decay = np.array([fixed_point.decay(tau) for tau in dynamics.tau_ms])
    return QuantNetwork(layers, decay, dynamics.output, dynamics.reset, bits)


def _layer(layer: Layer, bits: int, unit: np.ndarray, input_bits: int) -> QuantLayer:
    integers, k = fixed_point.weight_integers(layer.forward_weight.cpu(), bits)
    theta = layer.threshold.cpu().double().numpy()
    own = unit[: len(theta)]
    theta = np.maximum(np.rint(theta * 2.0 ** own[:, None]), 1)
    shift = [max(0, math.frexp(row.max())[1] - MANTISSA_BITS) for row in theta]
    mantissa = np.rint(theta / 2.0 ** np.array(shift)[:, None])
    return QuantLayer(
        name=layer.name,
        stride=layer.stride,
        padding=int(layer.is_conv),
        in_shape=tuple(layer.in_shape),
        out_shape=tuple(layer.out_shape),
        weight=integers.numpy(),
        exponent=unit - k - input_bits,
        mantissa=np.clip(mantissa, 1, 2**MANTISSA_BITS - 1).astype(np.int32),
        shift=np.array(shift),
        gate=torch.round(layer.forward_gate.cpu() * GATE_STEPS).to(torch.int64).numpy(),
        unit=2.0**unit,
    )


def report(network: Network, net: QuantNetwork, samples: Sequence[Samples]) -> pd.DataFrame:
    """What integers cost, a row per layer and compartment.

    Columns: ``layer``; ``compartment``; ``weight_exponent`` k; ``weight_error``, root mean square
    over that of the weights; ``tau_ms`` and ``tau_chip_ms``; ``threshold_lsb``, the smallest;
    ``headroom_bits`` on the samples; ``saturated``, whether any membrane was clipped there;
    ``agreement``, spikes that both networks have over spikes that either has (same step, same
    neuron); ``count_agreement``, the same of spike counts over a sample, which is what the readout
    sees.

    Spikes differ although weights and decays do not: a slow membrane climbs to a hundred times its
    threshold (a reset takes one threshold a step off), so 24 bits leave it a unit of about 1/20,000
    of that, and every step cuts a part of a unit off. At 1000 Hz most of these spikes come a step
    or two early or late, and each such shift counts twice here and goes on into the next layer. At
    50 Hz some are missing or added: one in 25 counts of conv3 on MNIST.
    """
    names = tuple(net.names)
    part = network.upto(names[-1])
    runs = [(twin.forward(net, x.images, x.steps.drive, names),
             backends.forward(part, x.images, x.steps, raster=names)) for x in samples]  # fmt: skip
    labels = ("fast", "slow") if net.compartments == 2 else ("single",)
    rows = []
    for layer, float_layer in zip(net.layers, part.layers, strict=True):
        name, weight = layer.name, float_layer.forward_weight.cpu()
        k = fixed_point.weight_exponent(weight, net.weight_bits)
        rasters = [[run.rasters[name].cpu().int() for run in pair] for pair in runs]
        counts = [[raster.sum(0) for raster in pair] for pair in rasters]
        for c, label in enumerate(labels):
            error = torch.from_numpy(layer.weight[c]) * 2.0**-k - weight[c]
            tau = network.dynamics.tau_ms[c]
            peak = max(1, *(ours.peaks[name][c] for ours, _ in runs))
            rows.append(
                {
                    "layer": name,
                    "compartment": label,
                    "weight_exponent": k,
                    "weight_error": float(error.norm() / weight[c].norm().clamp_min(1e-30)),
                    "tau_ms": tau,
                    "tau_chip_ms": fixed_point.effective_tau(tau),
                    "threshold_lsb": int(layer.threshold[min(c, len(layer.threshold) - 1)].min()),
                    "headroom_bits": math.log2(net.limit / peak),
                    "saturated": bool(peak > net.limit),
                    "agreement": _overlap(rasters),
                    "count_agreement": _overlap(counts),
                }
            )
    return pd.DataFrame(rows)


def _overlap(pairs: list[list[torch.Tensor]]) -> float:
    """The smaller of both numbers over the larger, each summed over everything."""
    least, most = (sum(int(f(*pair).sum()) for pair in pairs) for f in (torch.min, torch.max))
    return least / max(most, 1)


def few(samples: Sequence[Samples], number: int) -> list[Samples]:
    """The first ``number`` images of each task."""
    return [replace(s, images=s.images[:number]) for s in samples]
