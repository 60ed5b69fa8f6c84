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


def build_per_layer(deployed: Deployment) -> float:
    """Share by which building in Lava takes longer for each further layer (a fitted line)."""
    from ltgate.loihi.lava_backend import run as lava

    of = deployed.trial
    image = of.open(0, "validation").images[:1]
    seconds = []
    for depth in range(1, len(deployed.net.layers) + 1):
        part = replace(deployed.net, layers=deployed.net.layers[:depth])
        tries = [lava.Timed() for _ in range(2)]
        for timed in tries:
            lava.forward(part, image, np.ones(2, int), counted=tuple(part.names[-1:]), timed=timed)
        seconds.append(min(timed.build_seconds for timed in tries))
    slope, start = np.polyfit(np.arange(1, len(seconds) + 1), seconds, 1)
    return float(slope / (start + slope))
