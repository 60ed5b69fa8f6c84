"""Cores, limits, and the estimate's arithmetic."""

import operator

import loihi_reference as reference
import numpy as np
import pytest

from ltgate.loihi import chip_table, estimate, mapping
from ltgate.loihi.deploy import Activity, messages_per_pixel
from ltgate.loihi.mapping import DoesNotFit, Shape


def published(dense: bool = False) -> list[Shape]:
    """16-32-64 channels on 28 x 28, strides 1, 2, 2, two compartments."""
    layers = [
        Shape("input", 28, 28, 1, 1, bits=0),
        Shape("conv1", 28, 28, 16, 1, 3, 2),
        Shape("conv2", 14, 14, 32, 16, 3, 2),
        Shape("conv3", 7, 7, 64, 32, 3, 2),
    ]
    return layers + [Shape("dense1", 1, 1, 256, 3136, 0, 2)] * dense


def test_pilotnet_is_close_to_what_the_compiler_printed() -> None:
    layers, published = zip(*mapping.pilotnet(), strict=True)
    cores = [mapping.place_layer(layer).cores for layer in layers]
    assert sum(published) == 74
    assert sum(map(operator.eq, cores, published)) == 9
    assert abs(sum(cores) - 74) <= 0.25 * 74
    neurons = estimate.check_on_pilotnet().set_index("quantity")["ratio"]
    assert neurons["neurons"] == 1
    assert (neurons.drop("neurons") < 1).all()  # updates alone: a lower bound


def test_every_neuron_is_on_a_core_and_no_core_is_overfull() -> None:
    for seed in range(40):
        net = reference.draw(np.random.default_rng(seed))
        placed = mapping.place(mapping.shapes(net, 8))
        for part, shape in zip(placed.placed, mapping.shapes(net, 8), strict=True):
            assert part.neurons * part.cores >= shape.neurons > part.neurons * (part.cores - 1)
            assert part.neurons <= mapping.NEURONS
            assert part.words <= mapping.WORDS
        grid = chip_table.cores(placed)
        assert (~grid["layer"].isin(["", "margin"])).sum() == placed.bare
        assert (grid["layer"] != "").sum() == placed.cores
        assert grid["used"].between(0, 1).all()


def test_the_published_network_fits_and_can_meet_the_guide() -> None:
    """20 to 30 % of the cores: without the dense layer that no readout sees, spread twice."""
    once, twice = (mapping.place(published(), spread=n) for n in (1, 2))
    assert once.cores < 0.2 * mapping.CORES
    assert 0.2 * mapping.CORES <= twice.cores <= 0.3 * mapping.CORES
    assert 0.3 * mapping.CORES < mapping.place(published(dense=True)).cores < mapping.CORES
    assert all(b.neurons <= a.neurons for a, b in zip(once.placed, twice.placed, strict=True))


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([Shape("dense1", 1, 1, 256, 50_176, 0, 2)], "dense1: one neuron's 50176 inputs take"),
        ([Shape("dense1", 1, 1, 2000, 3136, 0, 2)], r"dense1: 500 of 500 cores \(625 with a"),
        ([Shape("conv1", 28, 28, 128, 1, 3)], "conv1: one column of 28 x 128 neurons is 3584"),
        ([Shape("conv1", 7, 7, 256, 256, 3)], "conv1: its weights take 147456 words"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_reason(layers: list[Shape], words: str) -> None:
    with pytest.raises(DoesNotFit, match=words) as refused:
        mapping.place(layers)
    assert "would help" in str(refused.value)


def activity(net) -> Activity:
    spikes, synops = dict.fromkeys(net.names, 1000), dict.fromkeys(net.names, 50_000)
    return Activity("fast", 10, 20, messages=100, spikes=spikes, synops=synops)


def test_the_estimate_is_the_sum_of_its_counts() -> None:
    net = reference.draw(np.random.default_rng(1), compartments=2)
    placed = mapping.place(mapping.shapes(net, 8))
    found = estimate.estimate(net, activity(net), placed)
    k = estimate.values()
    updates = sum(layer.neurons for layer in net.layers) * 2 * 20
    synops = 5000 * len(net.layers)
    parts = found.layers[["synops_energy", "updates_energy"]].sum().sum()
    assert parts == pytest.approx(synops * k["synop_energy"] + updates * k["update_active_energy"])
    assert found.layers["energy"].sum() >= parts
    assert found.dynamic.low <= found.layers["energy"].sum() <= found.dynamic.high
    assert found.latency.high == pytest.approx(20 * k["pilotnet_step_time"])
    assert found.latency.low >= 20 * k["shortest_step"]
    assert found.total.low > found.dynamic.low and found.total.high > found.dynamic.high


def test_every_constant_has_unit_source_and_basis() -> None:
    table = estimate.constants()
    assert set(table["basis"]) == {"simulated", "measured", "vendor", "assumed"}
    assert table.notna().all().all() and table["name"].is_unique
    assert (table["value"] > 0).all()


@pytest.mark.parametrize(
    ("drive", "direct", "differences"),
    [(np.ones(200), 200, 1), ((np.arange(400) % 20 == 0), 20, 40), (np.array([0, 2, 2, 1]), 3, 2)],
)
def test_messages_of_a_pixel(drive, direct: int, differences: int) -> None:
    drive = drive.astype(int)
    assert messages_per_pixel(drive, "direct") == direct
    assert messages_per_pixel(drive, "differences") == differences
