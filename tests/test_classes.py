"""Classes of any number of images, under any labels."""

from pathlib import Path

import numpy as np
import pytest

from ltgate.data import idx, open_task
from ltgate.data.tasks import TaskSpec
from ltgate.params import Params


def made(folder: Path, labels: list[int]) -> Params:
    """Parameters of a folder with one image for each of these labels."""
    images = np.arange(len(labels) * 64).reshape(-1, 8, 8).astype(np.uint8)
    part = (images, np.array(labels, np.uint8))
    return Params(source=idx.save(folder, part, part))


@pytest.mark.parametrize("fraction", [0.2, 0.8])
def test_no_class_is_in_validation_alone(home: Path, fraction: float) -> None:
    labels = [0] * 10 + [1] * 3 + [2]
    params = made(home / "own", labels).with_(validation_fraction=fraction)
    task = TaskSpec(name="a", classes=[0, 1, 2], frame_rate_hz=100.0, duration_ms=50.0)
    for seed in range(20):
        train, held_out = (open_task(params, task, x, seed).labels for x in ("train", "validation"))
        assert set(train) == {0, 1, 2}
        assert sorted([*train, *held_out]) == labels
