"""Does Lava do what the twin does? Counted on the trained network, spike by spike."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ltgate.data.tasks import schedule
from ltgate.loihi import lava_backend, twin
from ltgate.loihi.deploy import Deployment

SECONDS = 600.0


@dataclass
class Compared:
    """``table``: a row per task, layer; ``timed``: of Lava, per task (build, run, memory)."""

    table: pd.DataFrame
    timed: pd.DataFrame


def compare(deployed: Deployment, samples: int, batch: int = 8) -> Compared:
    """Run validation images of every task on Lava and on the twin.

    ``table`` columns: ``task``, ``layer``, ``samples``, ``spikes`` (twin's), ``differing`` (places
    and steps in which one spikes and the other does not), ``equal`` share of spikes that both have.
    ``timed``: ``task``, ``samples``, ``build_seconds``, ``run_seconds``, ``peak_bytes``.
    """
    lava_backend.require()
    from ltgate.loihi.lava_backend import run as lava

    of, net = deployed.trial, deployed.net
    rows, times = [], []
    for position, task in enumerate(of.tasks):
        images = of.open(position, "validation").images[:samples]
        drive = schedule(task, of.params.presentation).drive
        names = tuple(net.names)
        differing, spikes = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        timed = lava.Timed()
        theirs = lava.forward(
            net, images, drive, raster=names, counted=(), batch=batch,
            differences=of.params.chip_input == "differences", seconds=SECONDS, timed=timed,
        )  # fmt: skip
        for start in range(0, len(images), batch):
            ours = twin.forward(net, images[start : start + batch], drive, raster=names)
            for name in names:
                raster = ours.rasters[name].numpy()
                other = theirs.rasters[name][:, start : start + batch].numpy()
                differing[name] += int((raster != other).sum())
                spikes[name] += int(raster.sum(dtype=np.int64))
        times.append((task.name, len(images), timed.build_seconds, timed.run_seconds,
                      timed.peak_bytes))  # fmt: skip
        for name in names:
            equal = 1 - differing[name] / max(spikes[name], 1)
            rows.append((task.name, name, len(images), spikes[name], differing[name], equal))
    return Compared(
        pd.DataFrame(rows, columns=["task", "layer", "samples", "spikes", "differing", "equal"]),
        pd.DataFrame(
            times, columns=["task", "samples", "build_seconds", "run_seconds", "peak_bytes"]
        ),
    )


def timing(deployed: Deployment, position: int, samples: int, batch: int = 10) -> dict[str, float]:
    """Lava's build and run seconds and peak memory when spikes are only counted."""
    from ltgate.loihi.lava_backend import run as lava

    of, net = deployed.trial, deployed.net
    images = of.open(position, "validation").images[:samples]
    drive = schedule(of.tasks[position], of.params.presentation).drive
    timed = lava.Timed()
    lava.forward(
        net, images, drive, counted=tuple(net.names[-1:]), batch=batch,
        differences=of.params.chip_input == "differences", seconds=SECONDS, timed=timed,
    )  # fmt: skip
    return {**vars(timed), "samples": len(images)}


def batch_speedups(deployed: Deployment, repeats: int, samples: int) -> list[float]:
    """Seconds per sample one after the other over those side by side, in turns, ``repeats`` times.

    Both have the same ``samples`` of the first task.
    """
    found = []
    for _ in range(repeats):
        together, alone = (timing(deployed, 0, samples, batch) for batch in (samples, 1))
        found.append(alone["run_seconds"] / together["run_seconds"])
    return found


def build_per_layer(deployed: Deployment, repeats: int) -> list[float]:
    """Seconds that building in Lava takes longer for each further layer, ``repeats`` times.

    A line fitted over the depths of this network, each built once in every turn.
    """
    from ltgate.loihi.lava_backend import run as lava

    image = deployed.trial.open(0, "validation").images[:1]
    depths = np.arange(1, len(deployed.net.layers) + 1)
    slopes = []
    for _ in range(repeats):
        seconds = []
        for depth in depths:
            part, timed = replace(deployed.net, layers=deployed.net.layers[:depth]), lava.Timed()
            lava.forward(part, image, np.ones(2, int), counted=tuple(part.names[-1:]), timed=timed)
            seconds.append(timed.build_seconds)
        slopes.append(float(np.polyfit(depths, seconds, 1)[0]))
    return slopes
