r"""From a trained float network to the chip's integers, with a report of what that cost.

Weights take ``bits`` bits and one exponent per layer. Each compartment's membrane gets the finest
unit 2^-u at which the largest |v| on the calibration samples keeps ``HEADROOM`` bits below
saturation: a wide run of the integer network shows it. Thresholds are rounded to that unit and
split into a mantissa of 17 bits and a shift.

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

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ltgate import backends, features, fixed_point
from ltgate.data.tasks import Schedule
from ltgate.errors import UserError
from ltgate.loihi import twin
from ltgate.loihi.quantnet import QuantLayer, QuantNetwork
from ltgate.network import GATE_STEPS, Layer, Network
from ltgate.neurons import COMPILED

HEADROOM = 1
_PIXEL_BITS = 8  # a pixel is byte / 256; an event is 1
_WIDE_UNIT = 20  # of the calibration run: fine, and every product stays below 2^53
_WIDE_LIMIT = 2**40
LARGEST_UNIT = 24
MANTISSA_BITS = 17  # of a threshold
REPORTED_IMAGES = 4  # of each task
READOUT_BITS = 8


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
    input_bits = _PIXEL_BITS * (samples[0].images.ndim < 5)
    units = [[_WIDE_UNIT] * network.dynamics.compartments] * len(network.layers)
    wide = _network(network, bits, units, input_bits)
    wide.limit = _WIDE_LIMIT
    runs = [twin.forward(wide, s.images, s.steps.drive) for s in samples]
    units = []
    for layer in wide.layers:
        peak = np.max([run.peaks[layer.name] for run in runs], axis=0)
        peak = np.maximum(peak, layer.threshold.max(1))
        room = fixed_point.MEMBRANE_LIMIT / 2**HEADROOM / peak
        unit = np.minimum(_WIDE_UNIT + np.floor(np.log2(room)).astype(int), LARGEST_UNIT)
        units.append(np.full_like(unit, unit.min()) if wide.blended else unit)
    return _network(network, bits, units, input_bits)


def _deployable(network: Network, samples: Sequence[Samples]) -> None:
    dynamics, clocks = network.dynamics, {s.steps.name for s in samples} - {"pulse"}
    for wrong, words in (
        (dynamics.current != "raw", f"current={dynamics.current!r}: on the chip its gain would "
         "change with the frame rate; train with current='raw'"),
        (dynamics.output not in COMPILED, f"output={dynamics.output!r}: the integer neurons "
         "(ltgate/loihi/twin, ltgate/loihi/lava_backend) know or | blend"),
        (dynamics.follows != "nothing" or dynamics.compartments > 2,
         f"follows={dynamics.follows!r} with {dynamics.compartments} compartments: the integer "
         "neurons know gates that stay, and one or two compartments"),
        (clocks, f"presentation={''.join(sorted(clocks)[:1])!r}: the chip has one clock; "
         "deployment needs 'pulse'"),
    ):  # fmt: skip
        if wrong:
            raise UserError(words)


def _network(
    network: Network, bits: int, units: Sequence[Sequence[int]], input_bits: int
) -> QuantNetwork:
    """In integers, with 2^unit membranes to a float unit; ``units`` per layer and compartment."""
    dynamics = network.dynamics
    layers = [
        _layer(layer, bits, np.array(unit), input_bits * (number == 0))
        for number, (layer, unit) in enumerate(zip(network.layers, units, strict=True))
    ]
    decay = np.array([fixed_point.decay(tau) for tau in dynamics.tau_ms])
    return QuantNetwork(layers, decay, dynamics.output, dynamics.reset, bits)


def _layer(layer: Layer, bits: int, unit: np.ndarray, input_bits: int) -> QuantLayer:
    integers, k = fixed_point.weight_integers(layer.forward_weight.cpu(), bits)
    theta = layer.threshold.cpu().double().numpy()
    theta = np.maximum(np.rint(theta * 2.0 ** unit[: len(theta), None]), 1)
    shift = 2.0 ** np.maximum(np.frexp(theta.max(1, keepdims=True))[1] - MANTISSA_BITS, 0)
    theta = np.clip(np.rint(theta / shift), 1, 2**MANTISSA_BITS - 1) * shift
    gate = torch.round(layer.forward_gate.cpu() * GATE_STEPS)
    return QuantLayer(
        layer.name, layer.stride, layer.padding, tuple(layer.in_shape), tuple(layer.out_shape),
        integers.numpy(), unit - k - input_bits, theta.astype(np.int64), gate.long().numpy(),
    )  # fmt: skip


def report(network: Network, net: QuantNetwork, samples: Sequence[Samples]) -> pd.DataFrame:
    """What integers cost, a row per layer and compartment.

    Columns: ``layer``; ``compartment``; ``weight_exponent`` k; ``weight_error``, root mean square
    over that of the weights; ``tau_ms`` and ``tau_chip_ms``; ``threshold_lsb``, the smallest;
    ``headroom_bits`` on the first ``REPORTED_IMAGES`` of each task; ``saturated``, whether any
    membrane was clipped there; ``agreement``, spikes that both networks have over spikes that
    either has (same step, same neuron); ``count_agreement``, the same of spike counts over a
    sample, which is what the readout sees.

    Spikes differ although weights and decays do not: a slow membrane climbs to a hundred times its
    threshold (a reset takes one threshold a step off), so 24 bits leave it a unit of about 1/20,000
    of that, and every step cuts a part of a unit off. At 1000 Hz most of these spikes come a step
    or two early or late, and each such shift counts twice here and goes on into the next layer. At
    50 Hz some are missing or added: one in 25 counts of conv3 on MNIST.
    """
    names = tuple(net.names)
    part = network.upto(names[-1])
    runs = [
        (
            twin.forward(net, images, s.steps.drive, names),
            backends.forward(part, images, s.steps, raster=names),
        )
        for s in samples
        for images in [s.images[:REPORTED_IMAGES]]
    ]
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
                    "layer": name, "compartment": label, "weight_exponent": k,
                    "weight_error": float(error.norm() / weight[c].norm().clamp_min(1e-30)),
                    "tau_ms": tau, "tau_chip_ms": fixed_point.effective_tau(tau),
                    "threshold_lsb": int(layer.threshold[min(c, len(layer.threshold) - 1)].min()),
                    "headroom_bits": math.log2(net.limit / peak),
                    "saturated": bool(peak > net.limit),
                    "agreement": _overlap(rasters), "count_agreement": _overlap(counts),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _overlap(pairs: list[list[torch.Tensor]]) -> float:
    """The smaller of both numbers over the larger, each summed over everything."""
    least, most = (sum(int(f(*pair).sum()) for pair in pairs) for f in (torch.min, torch.max))
    return least / max(most, 1)


@dataclass(frozen=True)
class View:
    """One view's part of the readout in integers.

    Attributes:
        name: ``conv3``, ``conv1/4``, ...
        weight: int8 [values, classes].
        exponent: e_v.
    """

    name: str
    weight: np.ndarray
    exponent: int


@dataclass(frozen=True)
class Readout:
    """All views, the bias (float64 [classes], of the embedded CPU) and whether norms divide."""

    views: list[View]
    bias: np.ndarray
    normalise: bool

    def scores(self, counts: dict[str, torch.Tensor]) -> np.ndarray:
        """Float64 [B, classes] from the layers' spike counts [B, channels, height, width]."""
        total = self.bias
        for view in self.views:
            layer = counts[features.split(view.name)[0]]
            shown = features.view_counts(layer.double(), view.name)
            found = shown @ torch.from_numpy(view.weight).double()  # exact: far below 2^53
            found = found * 2.0**-view.exponent
            if self.normalise:
                found = found / shown.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
            total = total + found.numpy()
        return total


def readout(weight: torch.Tensor, sizes: dict[str, int], normalise: bool) -> Readout:
    """The readout's weights, float64 [values of all views + 1, classes], in integers.

    ``sizes``: number of values of each view, in order.
    """
    parts, start = [], 0
    for view, size in sizes.items():
        own = weight[start : start + size]
        largest = max(float(own.abs().max()), 1e-30)
        exponent = int(np.floor(np.log2((2 ** (READOUT_BITS - 1) - 1) / largest)))
        integers = torch.round(own * 2.0**exponent).to(torch.int8).numpy()
        parts.append(View(view, integers, exponent))
        start += size
    return Readout(parts, weight[start].double().numpy(), normalise)
