"""Spikes of the published network, frozen: whatever alters one, code or library, fails here."""

import hashlib

import numpy as np
import pytest
import torch

from ltgate import backends
from ltgate.data.tasks import FAST, SLOW, schedule
from ltgate.loihi import twin
from ltgate.loihi.quantise import Samples, quantise
from ltgate.network import create
from ltgate.neurons import Dynamics

pytestmark = pytest.mark.usefixtures("one_thread")

# output, current, reset, presentation, task, unit of thresholds, digest of all spike counts
FROZEN = [
    ("or", "raw", "subtract", "frame", FAST, 1 / 2, "33f403fadb208eba"),
    ("or", "raw", "subtract", "as_coded", SLOW, 1 / 2, "0e835d463905243f"),
    ("blend", "normalised", "zero", "hold", SLOW, 1 / 32, "0c22ecbb0b4db4d0"),
]
FROZEN_INTEGERS = [("or", 1 / 8, "0e26e3f696579e9c"), ("blend", 1 / 8, "3448d99e6e102b91")]


def published(dynamics: Dynamics, unit: float):
    """The published network, its thresholds and gates exact in binary; two images for it."""
    random = np.random.default_rng(2025)
    net = create(dynamics, [16, 32, 64], [1, 2, 2], [256], random, weight_scale=2.0)
    for layer in net.layers:
        layer.threshold[:] = torch.from_numpy(random.integers(1, 9, layer.threshold.shape) * unit)
        layer.gate[:] = torch.from_numpy(random.integers(0, 129, layer.gate.shape) / 128)
    return net, random.integers(0, 256, (2, 28, 28)).astype(np.uint8)


def digest(counts: dict[str, torch.Tensor]) -> str:
    """Of int32 spike counts, layer by layer, every layer firing now and then."""
    assert all((count > 0).float().mean() > 0 for count in counts.values())
    joined = b"".join(counts[name].numpy().astype("<i4").tobytes() for name in sorted(counts))
    return hashlib.sha256(joined).hexdigest()[:16]


@pytest.mark.parametrize("backend", ["event", "portable"])
@pytest.mark.parametrize("output, current, reset, presentation, task, unit, frozen", FROZEN)
def test_published_network_spikes_as_it_always_did(
    output, current, reset, presentation, task, unit, frozen, backend
):
    net, images = published(Dynamics((5.0, 100.0), output, current, reset), unit)
    steps = schedule(task, presentation)
    assert digest(backends.forward(net, images, steps, backend=backend).counts) == frozen


@pytest.mark.parametrize("output, unit, frozen", FROZEN_INTEGERS)
def test_integer_network_spikes_as_it_always_did(output, unit, frozen):
    net, images = published(Dynamics(output=output), unit)
    steps = schedule(SLOW, "pulse")
    quantised = quantise(net, [Samples(images, steps)])
    run = twin.forward(quantised, images, steps.drive[:100])  # of 400 ms
    assert digest(run.counts) == frozen
