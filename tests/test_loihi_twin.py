"""The twin against plain NumPy: spikes, crossings, peaks."""

import loihi_reference as reference
import numpy as np
import pytest
import torch

from ltgate.errors import UserError
from ltgate.fixed_point import MEMBRANE_LIMIT
from ltgate.loihi import twin
from ltgate.loihi.quantnet import QuantNetwork

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIGURATIONS = 100


def case(seed: int, **options):
    """A network, images and drive."""
    random = np.random.default_rng(seed)
    net = reference.draw(random, **options)
    return net, reference.images(random, net, 2), reference.drive(random, 24)


def assert_same(net: QuantNetwork, images, drive) -> tuple[int, bool]:
    """All layers agree; returns how many spikes there are, and whether any layer saturated."""
    expected = reference.activity(net, images, drive)
    run = twin.forward(net, images, drive, raster=tuple(net.names))
    for name, raster in expected.rasters.items():
        np.testing.assert_array_equal(run.rasters[name].numpy(), raster, err_msg=name)
        np.testing.assert_array_equal(run.counts[name].numpy(), raster.sum(0, dtype=int))
        np.testing.assert_array_equal(run.crossings[name].numpy(), expected.crossings[name])
        np.testing.assert_array_equal(run.peaks[name], expected.peaks[name])
    saturated = max(peak.max() for peak in run.peaks.values()) > net.limit
    return sum(int(r.sum()) for r in expected.rasters.values()), saturated


def test_equal_to_plain_numpy_over_random_configurations() -> None:
    found = [assert_same(*case(seed, channels=1 + seed % 3)) for seed in range(CONFIGURATIONS)]
    assert sum(spikes > 50 for spikes, _ in found) > 0.8 * CONFIGURATIONS  # they do something
    assert sum(saturated for _, saturated in found) > 0.1 * CONFIGURATIONS


def test_streams_give_the_spikes_of_plain_numpy() -> None:
    spikes = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        net = reference.draw(random, channels=1 + seed % 3)
        spikes.append(assert_same(net, *reference.streamed(random, net, 2, 24))[0])
    assert min(spikes) > 0 and np.median(spikes) > 50


def test_a_sample_does_not_depend_on_its_batch_nor_on_threads() -> None:
    net, images, drive = case(3)
    together = twin.forward(net, np.concatenate([images, images[::-1]]), drive)
    torch.set_num_threads(3)
    for place, image in enumerate((images[0], images[1], images[1], images[0])):
        alone = twin.forward(net, image[None], drive)
        for name in net.names:
            assert torch.equal(alone.counts[name][0], together.counts[name][place])


def test_blocks_of_steps_join() -> None:
    """More steps than the kernels take at once."""
    net, images, _ = case(5, compartments=2)
    drive = (np.arange(600) % 7 == 0).astype(int)
    assert assert_same(net, images[:1], drive)[0] > 100


def test_membranes_saturate_at_24_bits() -> None:
    net, images, drive = case(11, compartments=2, limit=MEMBRANE_LIMIT)
    for layer in net.layers:
        layer.exponent = np.full(2, 16)
    _, saturated = assert_same(net, images, drive)
    assert saturated


def test_mistakes_are_named() -> None:
    net, images, drive = case(0)
    with pytest.raises(UserError, match=r"drive = [0-9.]+: the chip takes integers"):
        twin.forward(net, images, drive + 0.5)


def test_synaptic_operations_are_those_of_the_wires() -> None:
    """fan_out counts the connections that exist."""
    for seed in range(10):
        net, _, _ = case(seed)
        for layer in net.layers:
            probe = np.zeros(layer.in_shape[1:], np.int64)
            for y in range(probe.shape[0]):
                for x in range(probe.shape[1]):
                    one = np.zeros((1, *layer.in_shape), np.int64)
                    one[0, 0, y, x] = 1
                    weight = np.ones_like(layer.weight[:1])
                    ones = type(layer)(**{**vars(layer), "weight": weight})
                    reached = reference._currents(ones, one, 0)[0, 0]
                    probe[y, x] = reached.sum()
            np.testing.assert_array_equal(layer.fan_out(), probe)
