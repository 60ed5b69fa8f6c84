"""Does Lava do what the twin does? Counted on the trained network, spike by spike."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ltgate.loihi import lava_backend, twin
from ltgate.loihi.deploy import Deployment

if TYPE_CHECKING:
    from ltgate.loihi.lava_backend.run import Timed


def run(deployed: Deployment, position: int, samples: int, **options: object) -> "Timed":
    """Lava on the first validation images of a task, with the options of its ``forward``."""
    lava_backend.require()
    from ltgate.loihi.lava_backend.run import forward

    differences = deployed.coding == "differences"
    shown = deployed.shown(position, "validation", samples)
    return forward(deployed.net, *shown, differences=differences, **options)


def compare(deployed: Deployment, samples: int) -> pd.DataFrame:
    """Validation images of every task on Lava and on the twin; a row per task and layer.

    Columns: ``task``, ``layer``, ``samples``, ``spikes`` (twin's), ``differing`` (places and steps
    in which one spikes and the other does not), ``equal`` share of spikes that both have.
    """
    names, rows = tuple(deployed.net.names), []
    for position, task in enumerate(deployed.trial.tasks):
        shown = deployed.shown(position, "validation", samples)
        theirs = run(deployed, position, samples, raster=names, counted=()).rasters
        ours = twin.forward(deployed.net, *shown, raster=names).rasters
        for name in names:
            spikes, differing = int(ours[name].sum()), int((ours[name] != theirs[name]).sum())
            rows.append((task.name, name, len(shown[0]), spikes, differing,
                         1 - differing / max(spikes, 1)))  # fmt: skip
    return pd.DataFrame(rows, columns=["task", "layer", "samples", "spikes", "differing", "equal"])


def timing(deployed: Deployment, samples: int, batch: int = 10) -> "Timed":
    """Lava on the first task, when the last layer's spikes are counted and no others."""
    return run(deployed, 0, samples, batch=batch, counted=tuple(deployed.net.names[-1:]))


def batch_speedups(deployed: Deployment, repeats: int, samples: int) -> list[float]:
    """Seconds per sample one after the other over those side by side, in turns, ``repeats`` times.

    Both have the same ``samples`` of the first task.
    """
    found = []
    for _ in range(repeats):
        together, alone = (timing(deployed, samples, batch) for batch in (samples, 1))
        found.append(alone.run_seconds / together.run_seconds)
    return found


def build_per_layer(deployed: Deployment, repeats: int) -> list[float]:
    """Seconds that building in Lava takes longer for each further layer, ``repeats`` times.

    A line fitted over the depths of this network, each built once in every turn.
    """
    from ltgate.loihi.lava_backend.run import forward

    image, drive = deployed.shown(0, "validation", 1)
    depths = np.arange(1, len(deployed.net.layers) + 1)
    slopes = []
    for _ in range(repeats):
        parts = [replace(deployed.net, layers=deployed.net.layers[:depth]) for depth in depths]
        seconds = [forward(part, image, drive[:2]).build_seconds for part in parts]
        slopes.append(float(np.polyfit(depths, seconds, 1)[0]))
    return slopes
