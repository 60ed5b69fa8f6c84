"""Threshold calibration: rates against loops over rasters, targets reached, bounds kept."""

from itertools import product

import numpy as np
import pytest
import torch

from ltgate.backends import Activity, portable
from ltgate.data.tasks import Schedule
from ltgate.network import create
from ltgate.neurons import Dynamics
from ltgate.plasticity import homeostasis
from ltgate.plasticity.homeostasis import HomeostasisParameters, rates

SCOPES = ["layer", "channel"]
OUTPUTS = ["or", "blend"]
STEPS = Schedule("frame", 1.0, 1.0, np.ones(12, np.float32))


@pytest.fixture
def images():
    """Eight pictures of 6 x 6."""
    return np.random.default_rng(0).integers(0, 256, (8, 6, 6)).astype(np.uint8)


def network(output="or", tau=(5.0, 100.0)):
    """Positive weights, so that a low enough threshold makes any neuron fire; some are stronger."""
    made = create(
        Dynamics(tau, output), [3], [1], [4], np.random.default_rng(1), image_shape=(1, 6, 6)
    )
    for layer in made.layers:
        strength = torch.linspace(0.5, 2, layer.weight.shape[1])
        layer.weight = layer.weight.abs() * strength.view(1, -1, *[1] * (layer.weight.dim() - 2))
    return made


def calibrate(made, layer, show, target, scope="layer", iterations=10, tolerance=0.1, bounds=None):
    low, high = bounds or (2**-8, 2.0**8)
    params = HomeostasisParameters(
        target_rate=target, threshold_scope=scope, calibration_iterations=iterations,
        calibration_tolerance=tolerance, threshold_lowest=low, threshold_highest=high,
    )  # fmt: skip
    return homeostasis.calibrate(made, layer, show, params)


def shower(images):
    return lambda part: portable.forward(
        part, torch.from_numpy(images), STEPS, raster=tuple(part.names)
    )


@pytest.mark.parametrize(("output", "scope"), list(product(OUTPUTS, SCOPES)))
def test_rates_equal_the_loops(images, output, scope):
    made = network(output)
    random = np.random.default_rng(2)
    for layer in made.layers:
        layer.threshold = torch.from_numpy(random.uniform(0.5, 2, layer.threshold.shape)).float()
    activity = shower(images)(made)
    for layer in made.layers:
        channels, height, width = layer.out_shape
        raster = activity.rasters[layer.name].numpy()
        separate = np.zeros((2, channels))
        for channel in range(channels):
            spikes = sum(int(raster[t, b, channel].sum()) for t in range(12) for b in range(8))
            crossed = activity.crossings[layer.name][:, :, channel].sum(0).tolist()
            chances = 12 * 8 * height * width
            for c in range(2):
                separate[c, channel] = (spikes if output == "blend" else crossed[c]) / chances
        separate = separate[: len(layer.threshold)]
        expected = [[raster.mean(dtype=np.float64)]] if scope == "layer" else separate
        found = rates(activity, layer, scope)
        assert found.shape == np.shape(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert 0 < float(found.mean()) < 1


def calibrate_all(made, images, *arguments, **options):
    """Layer by layer from the input, as the layers before must be set."""
    for layer in made.layers:
        calibrate(made, layer, shower(images), *arguments, **options)


@pytest.mark.parametrize(("output", "scope"), list(product(OUTPUTS, SCOPES)))
@pytest.mark.parametrize("target", [0.1, 0.3])
def test_reaches_the_target(images, output, scope, target):
    made = network(output)
    calibrate_all(made, images, target, scope, iterations=14, tolerance=0.2, bounds=(0.01, 100.0))
    activity = shower(images)(made)
    for layer in made.layers:
        found = rates(activity, layer, scope)
        assert ((found - target).abs() <= 0.2 * target).all()
        assert layer.threshold.min() > 0.01 and layer.threshold.max() < 100
        if scope == "layer":
            assert len(layer.threshold.unique()) == 1
        if scope == "channel" and layer.is_conv:
            assert len(layer.threshold.unique()) > 1


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("brightness", "end"), [(0, 0), (255, 1)], ids=["never fires", "always fires"]
)
def test_thresholds_stay_within_their_bounds(scope, brightness, end):
    bounds = (0.25, 0.5)
    made = network()
    for layer in made.layers:
        layer.weight = torch.full_like(layer.weight, 1.5)
    images = np.full((2, 6, 6), brightness, np.uint8)
    calibrate_all(made, images, 0.3, scope, iterations=10, bounds=bounds)
    for layer in made.layers:
        assert (layer.threshold > bounds[0]).all() and (layer.threshold < bounds[1]).all()
        assert layer.threshold.flatten().tolist() == pytest.approx(
            [bounds[end]] * layer.threshold.numel(), rel=2e-3
        )


def test_bisects_the_logarithm_by_hand():
    # Bounds 1 and 16, rate 1/theta, target 1/3: 4 gives .25 < 1/3, 2 gives .5, 2 sqrt 2 gives .354
    made = create(Dynamics((5.0,)), [1], [1], [], np.random.default_rng(0), image_shape=(1, 1, 1))
    tried = []

    def show(part):
        theta = part.layers[0].threshold.item()
        tried.append(theta)
        counts = torch.tensor([round(1e6 / theta)], dtype=torch.int32).view(1, 1, 1, 1)
        return Activity(10**6, {"conv1": counts}, {"conv1": counts.view(1, 1, 1).long()})

    calibrate(made, made.layers[0], show, 1 / 3, iterations=9, tolerance=0.1, bounds=(1.0, 16.0))
    assert tried == pytest.approx([4, 2, 8**0.5], rel=1e-6)
    assert made.layers[0].threshold.item() == tried[-1]
