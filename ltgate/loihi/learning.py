"""The last layer learned on the deployed network's spikes: in NumPy, in Lava, by the library."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from ltgate.errors import UserError
from ltgate.loihi import lava_backend, twin
from ltgate.loihi.deploy import Deployment
from ltgate.loihi.rule import BATCH, ETA, Shown, answer, learn
from ltgate.plasticity.readout import DeltaCurrent, features

LAYER = 1  # whose spikes the class neurons see: the second convolution
POINTS = 4  # of the curve, a task
CHECKED = 512


def show(deployed: Deployment, position: int, split: str, samples: int) -> Shown:
    """What a layer of the deployed network sends for images of a task, drawn at random."""
    of, net, p = deployed.trial, deployed.net, deployed.trial.params
    if len(net.names) <= LAYER:
        raise UserError(
            f"readout_layers = {p.readout_layers}: only {net.names[0]} is deployed, and the chip's "
            "rule learns from the layer after it; name a deeper layer"
        )
    images, drive, name = of.open(position, split), deployed.drive(position), net.names[LAYER]
    rows = np.random.default_rng(of.seed).permutation(len(images))[:samples]
    rows.sort()
    parts = []
    for start in range(0, len(rows), BATCH):
        pixels = images.images[rows[start : start + BATCH]]
        spikes = twin.forward(net, pixels, drive, (name,)).rasters[name].flatten(2).numpy()
        parts.append(np.packbits(spikes.swapaxes(0, 1), axis=2))
    mixed = np.random.default_rng(of.seed + 1).permutation(len(rows))
    return Shown(
        np.concatenate(parts)[mixed], spikes.shape[2],
        deployed.learner.columns(images.labels[rows[mixed]]),
        deployed.learner.columns(of.tasks[position].classes).tolist(), deployed.learner.classes,
        p.gamma,
        (p.tau_fast_ms, p.tau_slow_ms),
    )  # fmt: skip


def learn_in_lava(shown: Shown, weight: np.ndarray, seconds: float = 300.0) -> np.ndarray:
    """The same in Lava: two ``LearningDense`` under a ``Loihi3FLearningRule``, floating point."""
    lava_backend.require()
    from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
    from lava.proc.dense.process import Dense, LearningDense
    from lava.proc.io.source import RingBuffer

    from ltgate.loihi.lava_backend.processes.spiking import LearningLTGate
    from ltgate.loihi.lava_backend.session import Session

    fast, slow = shown.tau
    traces = {"x1_impulse": 1, "x1_tau": fast, "x2_impulse": 1, "x2_tau": slow}
    rules = [
        Loihi3FLearningRule(dw=f"u0 * x{k} * y{k}", t_epoch=1, rng_seed=0, **traces) for k in (1, 2)
    ]
    spikes = shown.spikes(slice(None)).reshape(-1, shown.inputs)
    source = RingBuffer(data=spikes.T.astype(float))
    teacher = RingBuffer(data=shown.targets().repeat(shown.steps, 0).T)
    neurons = LearningLTGate(
        shape=(shown.classes,), learning_rule=rules[0], keep=shown.keep, gate=shown.gate,
        eta=ETA, interval=shown.steps,
    )  # fmt: skip
    teacher.s_out.connect(neurons.a_third_factor_in)
    number = Dense(weights=np.ones((1, shown.inputs)))
    source.s_out.connect(number.s_in)
    number.a_out.connect(neurons.a_number)
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
        session.run(len(spikes))
        return np.stack([synapse.weights.get() for synapse in synapses])


@dataclass(frozen=True)
class Compared:
    """The chip's rule beside the library's.

    Attributes:
        curves: ``rule``, ``samples`` learned so far, ``task``, ``accuracy`` on validation images
            (class-incremental).
        cosine: Of the chip's weights (both compartments together) with the library's, mean over
            classes, each vector without its mean, which a threshold that follows r cancels.
    """

    curves: pd.DataFrame
    cosine: float


CHIP, CHIP_8, LIBRARY = "chip rule", "chip rule, 8-bit weights", "library: delta rule"


def compare(deployed: Deployment, samples: int) -> Compared:
    """All rules learn the tasks one after the other, on the same spikes.

    The library's is ``delta_current`` (the current task's classes only, as here) on normalised
    counts.
    """
    tasks = deployed.trial.tasks
    train = [show(deployed, i, "train", samples) for i in range(len(tasks))]
    held_out = [show(deployed, i, "validation", samples) for i in range(len(tasks))]
    classes, inputs = train[0].classes, train[0].inputs
    weights = {CHIP: np.zeros((2, classes, inputs)), CHIP_8: np.zeros((2, classes, inputs))}
    generators = {CHIP: None, CHIP_8: np.random.default_rng(deployed.trial.seed)}
    delta = DeltaCurrent(inputs + 1, classes, rate=1.0, l2=1e-4)
    held_counts = [torch.cat(list(_counts(shown))) for shown in held_out]
    rows = []

    def judge(done: int) -> None:
        for task, shown, counts in zip(tasks, held_out, held_counts, strict=True):
            found = {rule: answer(shown, weight) for rule, weight in weights.items()}
            found[LIBRARY] = delta.scores(counts).numpy()
            for rule, scores in found.items():
                right = (scores.argmax(1) == shown.labels) & (scores.max(1) > 0)
                rows.append((rule, done, task.name, float(right.mean())))

    judge(0)
    done = 0
    for shown in train:
        for rows_of_part in np.array_split(np.arange(len(shown.labels)), POINTS):
            part = shown.part(rows_of_part)
            for rule, weight in weights.items():
                weights[rule] = learn(part, weight, generators[rule])
            for counts, label in zip(_counts(part), part.labels, strict=True):
                delta.learn(counts, torch.tensor([label]), part.taught)
            done += len(part.labels)
            judge(done)
    curves = pd.DataFrame(rows, columns=["rule", "samples", "task", "accuracy"])
    theirs = delta.weight[:-1].T.numpy()
    return Compared(curves, float(_cosine(weights[CHIP].sum(0), theirs).mean()))


def check(deployed: Deployment, samples: int = 2) -> float:
    """Largest difference of a weight between Lava and NumPy, over the largest weight.

    Of the layer's first ``CHECKED`` neurons: Lava takes every synapse at every step.
    """
    shown = show(deployed, 0, "train", samples)
    shown = replace(
        shown, packed=shown.packed[..., : CHECKED // 8], inputs=min(shown.inputs, CHECKED)
    )
    start = np.random.default_rng(0).normal(0, 0.2, (2, shown.classes, shown.inputs))
    ours, theirs = learn(shown, start), learn_in_lava(shown, start)
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def _counts(shown: Shown) -> Iterator[torch.Tensor]:
    """The library's inputs of each sample, float64 [1, inputs + 1]."""
    for sample in range(len(shown.labels)):
        counts = shown.spikes(slice(sample, sample + 1)).sum(1, dtype=np.int64)
        yield features([torch.from_numpy(counts)])


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Row by row, without the rows' means; 0 for a row that is constant."""
    one, other = (a - a.mean(1, keepdims=True) for a in (one, other))
    length = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / np.maximum(length, 1e-30)
