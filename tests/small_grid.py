"""A grid file small enough for tests: two short tasks from the digits, a tiny network."""

from pathlib import Path
from typing import Any

import yaml

from ltgate.grid import Grid

TASKS = [
    {"name": "fast", "classes": [0, 1, 2], "frame_rate_hz": 1000.0, "duration_ms": 10.0},
    {"name": "slow", "classes": [3, 4], "frame_rate_hz": 50.0, "duration_ms": 120.0},
]
PARAMS = {
    "tasks": TASKS,
    "train_images": 24,
    "validation_images": 20,
    "test_images": 12,
    "batch_size": 8,
    "channels": [2, 3],
    "strides": [2, 2],
    "hidden": [8],
    "readout_layers": ["conv1/2", "conv2"],
    "filter_passes": 2,
    "calibration_iterations": 4,
    "curve_points": 2,
    "checkpoint_every": 2,
    "backend": "portable",
    "device": "cpu",
    "threads": 1,
    "control": False,
}
AXES = {
    "ridge": [0.1, 1.0],
    "ratio": {20: {"tau_slow_ms": 100.0}, 50: {"tau_slow_ms": 250.0}},
}


def small_grid(folder: Path, name: str = "small", params: Any = None, **fields: Any) -> Grid:
    """A grid over a file written to ``folder``; ``fields`` go over its own, ``params`` into set."""
    written = {
        "set": {"cluster": "none", **PARAMS, **(params or {})},
        "methods": ["lt_gate"],
        "axes": AXES,
        **fields,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    return Grid.load(path)
