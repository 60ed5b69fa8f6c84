"""Does Lava do what the twin does, and the learning rule? Counted, on the trained network."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ltgate.loihi import lava_backend, learning, twin
from ltgate.loihi.deploy import Deployment
from ltgate.loihi.learning import ETA

if TYPE_CHECKING:
    from ltgate.loihi.lava_backend.run import Timed

CHECKED = 512  # neurons of the layer whose synapses learn in Lava: it takes every one every step


def run(deployed: Deployment, position: int, samples: int, **options: object) -> "Timed":
    """Lava on the first validation images of a task, with the options of its ``forward``."""
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
        theirs = run(deployed, position, samples).rasters
        ours = twin.forward(deployed.net, *shown, raster=names).rasters
        for name in names:
            spikes, differing = int(ours[name].sum()), int((ours[name] != theirs[name]).sum())
            rows.append((task.name, name, len(shown[0]), spikes, differing,
                         1 - differing / max(spikes, 1)))  # fmt: skip
    return pd.DataFrame(rows, columns=["task", "layer", "samples", "spikes", "differing", "equal"])


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


def rule(deployed: Deployment, samples: int = 2) -> float:
    """Largest difference of a weight that Lava's synapses and NumPy learn, over the largest weight.

    A ``LearningDense`` under a ``Loihi3FLearningRule`` per compartment, in floating point, from the
    layer's first ``CHECKED`` neurons; the third factors are those that NumPy's neurons send.
    """
    lava_backend.require()
    from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
    from lava.proc.dense.process import LearningDense
    from lava.proc.io.source import RingBuffer

    from ltgate.loihi.lava_backend.session import Session

    shown = learning.show(deployed, 0, "train", samples)
    shown = replace(
        shown, packed=shown.packed[..., : CHECKED // 8], inputs=min(shown.inputs, CHECKED)
    )
    start = np.random.default_rng(0).normal(0, 0.2, (2, shown.classes, shown.inputs))
    factors, weights = zip(*learning.lessons(shown, start), strict=True)
    third = np.zeros((2, shown.classes, samples, shown.steps))
    third[..., -1] = ETA * np.stack(factors, -1)
    spikes = shown.spikes(slice(None)).reshape(-1, shown.inputs)
    source, synapses = RingBuffer(data=spikes.T.astype(float)), []
    for tau, weight, factor in zip(shown.tau, start, third, strict=True):
        written = Loihi3FLearningRule(
            dw="u0 * x1 * y1", x1_impulse=1, x1_tau=tau, t_epoch=1, rng_seed=0
        )
        synapse = LearningDense(weights=weight, learning_rule=written)
        source.s_out.connect(synapse.s_in)
        teacher = RingBuffer(data=factor.reshape(shown.classes, -1))
        teacher.s_out.connect(synapse.s_in_y1)
        synapses.append(synapse)
    with Session(source, 300.0, tag="floating_pt") as session:
        session.run(len(spikes))
        theirs = np.stack([synapse.weights.get() for synapse in synapses])
    return float(np.abs(weights[-1] - theirs).max() / np.abs(weights[-1]).max())
