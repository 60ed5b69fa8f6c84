"""Classes of any number of images, under any labels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ltgate import methods
from ltgate.data import Batch, TaskImages, idx, open_task
from ltgate.data.tasks import TaskSpec
from ltgate.params import Params

SMALL = {
    "channels": [2, 2, 2],
    "strides": [1, 1, 2],
    "hidden": [8],
    "threshold": 0.25,
    "hebbian_images": 4,
    "calibration_batches": 1,
    "backend": "portable",
    "device": "cpu",
}


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


METHODS = ["lt_gate", "lt_gate_published", "replay", "hlop", "dsd_snn"]
READOUTS = ["delta", "delta_current", "rls", "prototypes"]


@pytest.mark.parametrize(
    ("method", "more"),
    [(name, {}) for name in METHODS]
    + [("lt_gate_local", {"readout": name, "projector": "none"}) for name in READOUTS],
)
def test_labels_with_gaps_cost_and_learn_the_same(
    home: Path, method: str, more: dict[str, str]
) -> None:
    """Three classes called 0, 1, 2, and called 3, 254, 255."""
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype(np.uint8)
    position = np.arange(12) % 3
    found = []
    for names in (np.array([0, 1, 2]), np.array([3, 254, 255])):
        clock = {"frame_rate_hz": 100.0, "duration_ms": 50.0}
        parts = {"a": names[:2].tolist(), "b": names[2:].tolist()}
        tasks = [TaskSpec(name=name, classes=own, **clock) for name, own in parts.items()]
        params = made(home / "own", list(range(3))).with_(**SMALL)
        params = (
            methods.METHODS[method]
            .configure(params)
            .with_(tasks=[task.model_dump() for task in tasks], **more)
        )
        learner = methods.create(method, params, np.random.default_rng(0))
        for number, task in enumerate(tasks):
            rows = np.isin(names[position], task.classes)
            labels = names[position[rows]]
            split = TaskImages(task, "train", images[rows], labels, f"{task.name}{len(found)}")
            learner.begin_task(number, split)
            learner.learn(split, Batch(images[rows], labels, np.arange(len(labels)), task))
            learner.end_task(number)
        size = sum(tensor.nbytes for tensor in learner.state()[0].values())
        found.append((size, learner.scores(split)[:, names], learner.spikes(split)))
    (size, scores, spikes), others = found
    assert size == others[0] and spikes == others[2]
    assert torch.equal(scores, others[1]) and scores.any()
