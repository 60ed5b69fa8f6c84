r"""Learning on the chip: the last layer by a rule that Loihi's synapses have.

Two learning connections lead to the class neurons, one a compartment. At every step::

    fast:  dw = eta x1 y1,   x1 <- x1 exp(-1/5) + s_pre/16,     y1 = gamma (target - s_post)
    slow:  dw = eta x2 y2,   x2 <- x2 exp(-1/100) + s_pre/16,   y2 = (1 - gamma) (target - s_post)

x1 and x2 are the chip's two presynaptic traces, s_post the spike of the dual-compartment class
neuron, gamma the gate, target - s_post the error as third factor (``Loihi3FLearningRule``; the
neuron computes it, the synapse multiplies). target is ``TARGET`` for the shown class and 0 for the
others. The answer is the class that spikes most.

What the rule set cannot express, so that the library's own learning is not on the chip:

* division: the L2 norm of the counts, softmax, Oja's normalisation, the competitive rule's |x'|^2;
* anything over other synapses: the ``full`` projector and ``rank1`` (a matrix product), and the
  running variance that sets the gate (a population mean; the neuron may compute its own);
* the winner of a layer: competitive learning needs the largest of all filters at a position;
* a reset of traces between samples: they decay on (an embedded CPU could clear them).

The bit-approximate model (7-bit traces, 8-bit weights, rounded at random) was not tried.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from ltgate.data.tasks import schedule
from ltgate.loihi import lava_backend, twin
from ltgate.loihi.deploy import Deployment
from ltgate.plasticity.readout import Delta, features

TAU = (5.0, 100.0)
ETA = 2.0**-7  # the rule set's smallest
IMPULSE = 2.0**-4  # of a trace
TARGET = 0.5
SAMPLES = 10


@dataclass(frozen=True)
class Shown:
    """Spikes of the layer below, sample by sample.

    Attributes:
        spikes: uint8 [samples x T, inputs].
        labels: [samples].
        steps: T.
        classes: How many output neurons.
        gamma: The gate.
        threshold: theta of the class neurons.
    """

    spikes: np.ndarray
    labels: np.ndarray
    steps: int
    classes: int
    gamma: float
    threshold: float = 1.0

    def targets(self) -> np.ndarray:
        """[samples, classes]."""
        return TARGET * (self.labels[:, None] == np.arange(self.classes))


def show(deployed: Deployment, position: int, split: str, samples: int) -> Shown:
    """The deployed network's last layer on the first images of a task, on the twin."""
    of, net = deployed.trial, deployed.net
    images = of.open(position, split)
    steps = schedule(of.tasks[position], of.params.presentation)
    order = np.random.default_rng(of.seed).permutation(len(images))[:samples]
    last = net.names[-1]
    rasters = [
        twin.forward(net, images.images[np.sort(order)][k : k + 1], steps.drive, raster=(last,))
        .rasters[last]
        .flatten(1)
        .numpy()
        for k in range(len(order))
    ]
    labels = images.labels[np.sort(order)]
    mixed = np.random.default_rng(of.seed + 1).permutation(len(order))
    spikes = np.concatenate([rasters[k] for k in mixed])
    return Shown(spikes, labels[mixed], len(steps), deployed.learner.classes, of.params.gamma)


def threshold(parts: list[Shown]) -> float:
    """theta at which ``SAMPLES`` samples, learned at an error of 1, lead to a spike at every step.

    SAMPLES eta sum_t s[t] . x2[t]: the sum is how much a sample changes the current that it causes.
    The most active task sets it, else learning would swing there; a task with fewer spikes learns
    more slowly by the square, for the rule cannot divide by them.
    """
    keep = np.exp(-1 / TAU[1])
    means = []
    for shown in parts:
        changes = []
        for spikes in np.split(shown.spikes, len(shown.labels)):
            trace, change = np.zeros(spikes.shape[1]), 0.0
            for step in spikes:
                trace = trace * keep + IMPULSE * step
                change += trace[step > 0].sum()
            changes.append(ETA * change)
        means.append(np.mean(changes))
    return SAMPLES * float(max(means))


def learn(shown: Shown, weight: np.ndarray) -> np.ndarray:
    """New weights, by the rule in the order of Lava's steps: currents arrive one step late."""
    weight = weight.copy()
    keep = np.exp(-1 / np.array(TAU))[:, None]
    gate = np.array([shown.gamma, 1 - shown.gamma])[:, None]
    traces, v = np.zeros((2, shown.spikes.shape[1])), np.zeros((2, shown.classes))
    charge = np.zeros((2, shown.classes))
    targets = shown.targets()
    for t, spikes in enumerate(shown.spikes.astype(np.float64)):
        sample = t // shown.steps
        if t % shown.steps == 0:
            v[:] = 0
        v = v * keep + charge
        crossed = v >= shown.threshold
        v = v - crossed * shown.threshold
        fired = crossed.any(0)
        charge = weight[:, :, spikes > 0].sum(2)
        traces = traces * keep + IMPULSE * spikes
        error = gate * (targets[sample] - fired)
        active = traces.any(0)
        weight[:, :, active] += ETA * error[:, :, None] * traces[:, None, active]
    return weight


def answer(shown: Shown, weight: np.ndarray) -> np.ndarray:
    """Output spikes [samples, classes] without learning."""
    keep = np.exp(-1 / np.array(TAU))[:, None]
    flat = weight.reshape(-1, weight.shape[2]).astype(np.float32)
    counts = np.zeros((len(shown.labels), shown.classes))
    for sample, spikes in enumerate(np.split(shown.spikes, len(shown.labels))):
        charges = (spikes.astype(np.float32) @ flat.T).reshape(len(spikes), 2, -1)
        v = np.zeros(charges.shape[1:])
        for charge in charges:
            v = v * keep + charge
            crossed = v >= shown.threshold
            v = v - crossed * shown.threshold
            counts[sample] += crossed.any(0)
    return counts


def learn_in_lava(shown: Shown, weight: np.ndarray, seconds: float = 300.0) -> np.ndarray:
    """The same in Lava: two ``LearningDense`` under a ``Loihi3FLearningRule``, floating point."""
    lava_backend.require()
    from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
    from lava.proc.dense.process import LearningDense

    from ltgate.loihi.lava_backend.processes.frames import FrameSource
    from ltgate.loihi.lava_backend.processes.learning import LearningLTGate
    from ltgate.loihi.lava_backend.session import Session

    rate = int(np.log2(ETA))
    traces = {"x1_impulse": IMPULSE, "x1_tau": TAU[0], "x2_impulse": IMPULSE, "x2_tau": TAU[1]}
    rules = [
        Loihi3FLearningRule(dw=f"2^{rate} * u0 * x{k} * y{k}", t_epoch=1, rng_seed=0, **traces)
        for k in (1, 2)
    ]
    source = FrameSource(images=shown.spikes, drive=np.ones(1, int))
    teacher = FrameSource(images=shown.targets(), drive=np.ones(shown.steps, int))
    neurons = LearningLTGate(
        shape=(shown.classes,), learning_rule=rules[0], keep=np.exp(-1 / np.array(TAU)),
        threshold=shown.threshold, gamma=shown.gamma, interval=shown.steps,
    )  # fmt: skip
    teacher.s_out.connect(neurons.a_third_factor_in)
    synapses = []
    for rule, start, port in zip(rules, weight, (neurons.a_fast, neurons.a_slow), strict=True):
        synapse = LearningDense(weights=start, learning_rule=rule)
        source.s_out.connect(synapse.s_in)
        synapse.a_out.connect(port)
        neurons.s_out_bap.connect(synapse.s_in_bap)
        for name in ("y1", "y2", "y3"):
            getattr(neurons, f"s_out_{name}").connect(getattr(synapse, f"s_in_{name}"))
        synapses.append(synapse)
    with Session(source, seconds, tag="floating_pt") as session:
        session.run(len(shown.spikes))
        return np.stack([synapse.weights.get() for synapse in synapses])


def compare(deployed: Deployment, samples: int) -> pd.DataFrame:
    """Both rules learn the tasks one after the other, on the same spikes.

    Columns: ``rule`` (chip rule, delta rule of the library on normalised counts), ``samples``
    learned so far, ``task``, ``accuracy`` on validation images (class-incremental).
    """
    tasks = range(len(deployed.trial.tasks))
    train = [show(deployed, i, "train", samples) for i in tasks]
    held_out = [show(deployed, i, "validation", samples) for i in tasks]
    theta = threshold([_part(shown, np.arange(min(4, len(shown.labels)))) for shown in train])
    train = [replace(shown, threshold=theta) for shown in train]
    held_out = [replace(shown, threshold=theta) for shown in held_out]
    classes, inputs = train[0].classes, train[0].spikes.shape[1]
    weight = np.zeros((2, classes, inputs))
    delta = Delta.create(inputs + 1, classes, rate=1.0, l2=1e-4)
    names = [task.name for task in deployed.trial.tasks]
    rows = []

    def judge(done: int) -> None:
        for name, shown in zip(names, held_out, strict=True):
            chip = answer(shown, weight)
            ours = (_inputs(shown) @ delta.weight).numpy()
            for rule, scores in (("chip rule", chip), ("library: delta rule", ours)):
                right = (scores.argmax(1) == shown.labels) & (scores.max(1) > 0)
                rows.append((rule, done, name, float(right.mean())))

    judge(0)
    done = 0
    for position in tasks:
        parts = np.array_split(np.arange(len(train[position].labels)), 4)
        for part in parts:
            few = _part(train[position], part)
            weight = learn(few, weight)
            for row in range(len(part)):
                one = _inputs(_part(few, np.array([row])))
                own = list(deployed.trial.tasks[position].classes)
                delta.learn(one, torch.as_tensor(few.labels[row : row + 1]), own)
            done += len(part)
            judge(done)
    return pd.DataFrame(rows, columns=["rule", "samples", "task", "accuracy"])


def check(deployed: Deployment, samples: int = 2) -> float:
    """Largest difference of a weight between Lava and NumPy, over the largest weight."""
    shown = show(deployed, 0, "train", samples)
    shown = replace(shown, threshold=threshold([shown]))
    start = np.random.default_rng(0).normal(0, 0.02, (2, shown.classes, shown.spikes.shape[1]))
    ours, theirs = learn(shown, start), learn_in_lava(shown, start)
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def _part(shown: Shown, chosen: np.ndarray) -> Shown:
    spikes = shown.spikes.reshape(len(shown.labels), shown.steps, -1)[chosen]
    return replace(shown, spikes=spikes.reshape(-1, spikes.shape[2]), labels=shown.labels[chosen])


def _inputs(shown: Shown) -> torch.Tensor:
    counts = shown.spikes.reshape(len(shown.labels), shown.steps, -1).sum(1, dtype=np.int64)
    return features([torch.from_numpy(counts)])
