r"""Learning on the chip: the last layer by a rule that Loihi's synapses have, on the deployed
network's spikes.

Two learning connections lead from a layer's neurons to the class neurons, one a compartment c, of
``tau_fast_ms`` and ``tau_slow_ms``. At every step, with s_pre the spikes below and n their number
(which a synapse of fixed weight 1 brings)::

    x_c <- x_c exp(-1/tau_c) + s_pre                        the chip's two presynaptic traces
    v_c <- v_c exp(-1/tau_c) + sum_j w_cj s_j;   r_c <- r_c exp(-1/tau_c) + n
    spike if v_c >= theta_c r_c in a compartment, whose v_c falls by that much;
    theta_c = 1 - exp(-1/tau_c)

and at the last step of a sample, S its spikes so far, gamma the gate, y* the target rate::

    y_c = gamma_c 2^-floor(log2 r_c) (y* - S/T),  gamma_fast = gamma, gamma_slow = 1 - gamma
    dw_c = eta x_c y_c                             (``Loihi3FLearningRule``)

The neuron computes y_c, its third factor (a shift in place of a division), and sends 0 at all other
steps and for classes that the lesson is not about. The answer is the class that spikes most.

Why so. A slow sample has a fortieth of a fast one's spikes, and the change of an output grows with
their square: a threshold that follows r and the shift of y make both tasks alike. An error sent at
every step, target - spike, arrives before a membrane of 100 ms has answered to the last change, and
the weights swing: hence one lesson a sample. The class neurons read the second convolution: the
last one has so few spikes in a slow sample that the library's rule learns little there as well.

What the rule set cannot express, so that the library's own learning is not on the chip:

* division: the L2 norm of the counts (a power of two of their sum stands for it), softmax, Oja's
  normalisation, the competitive rule's |x'|^2;
* anything over other synapses: the ``full`` projector and ``rank1`` (a matrix product), and the
  running variance that sets the gate (a population mean; the neuron may compute its own);
* the winner of a layer: competitive learning needs the largest of all filters at a position;
* a reset of traces between samples: they decay on (an embedded CPU could clear them).

Weights of 8 bits are tried in NumPy (rounded at random, as the chip does); Lava's bit-approximate
model, with traces of 7 bits, was not.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from ltgate.errors import UserError
from ltgate.loihi import twin
from ltgate.loihi.deploy import Deployment
from ltgate.plasticity.readout import DeltaCurrent, features

LAYER = 1  # whose spikes the class neurons see: the second convolution
POINTS = 4  # of the curve, a task
ETA = 2.0**6
TARGET = 0.5
LEAST = 1.0  # input below which a compartment does not learn: its shift would turn round
LSB = 2.0**-4  # of a weight in 8 bits
LARGEST = 127
BATCH = 16


@dataclass(frozen=True)
class Shown:
    """Spikes of the layer below, sample by sample.

    Attributes:
        packed: uint8 [samples, T, inputs / 8], bits as :func:`numpy.packbits` has them.
        inputs: How many neurons.
        labels: [samples].
        taught: Classes that a lesson is about.
        classes: How many output neurons.
        tau, gate: tau_c in steps of 1 ms and gamma_c, [2], fast and slow.
    """

    packed: np.ndarray
    inputs: int
    labels: np.ndarray
    taught: list[int]
    classes: int
    tau: np.ndarray
    gate: np.ndarray

    @property
    def keep(self) -> np.ndarray:
        """exp(-1/tau_c), [2]."""
        return np.exp(-1 / self.tau)

    @property
    def steps(self) -> int:
        """T."""
        return self.packed.shape[1]

    def spikes(self, rows: slice) -> np.ndarray:
        """uint8 [samples, T, inputs]."""
        return np.unpackbits(self.packed[rows], axis=2, count=self.inputs)

    def targets(self) -> np.ndarray:
        """y*, [samples, classes]; -1: no lesson."""
        shown = self.labels[:, None] == np.arange(self.classes)
        taught = np.isin(np.arange(self.classes), self.taught)
        return np.where(taught, TARGET * shown, -1.0)


def _respond(
    spikes: np.ndarray, weight: np.ndarray, keep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Output spikes S [B, classes] and r [B, 2] at the last step; currents arrive a step late.

    ``spikes`` [B, T, inputs], ``weight`` [2, classes, inputs], ``keep`` [2].
    """
    batch, steps, _ = spikes.shape
    charges = (spikes @ weight.reshape(-1, weight.shape[2]).T).reshape(batch, steps, 2, -1)
    number = spikes.sum(2)
    v, counts = np.zeros((batch, *charges.shape[2:])), np.zeros((batch, charges.shape[3]))
    r = np.zeros((batch, 2))
    for t in range(1, steps):
        v = v * keep[:, None] + charges[:, t - 1]
        r = r * keep + number[:, t - 1, None]
        bar = ((1 - keep) * r)[:, :, None]
        crossed = (v >= bar) & (bar > 0)
        v = v - crossed * bar
        counts = counts + crossed.any(1)
    return counts, r


def lessons(
    shown: Shown, weight: np.ndarray, generator: np.random.Generator | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sample by sample, the third factors [2, classes] and the new weights [2, classes, inputs].

    With a ``generator`` weights have 8 bits in units of ``LSB``; each step is rounded at random.
    """
    ages = shown.keep ** np.arange(shown.steps - 1, -1, -1)[:, None]
    trace = np.zeros((2, shown.inputs))
    for sample, targets in enumerate(shown.targets()):
        spikes = shown.spikes(slice(sample, sample + 1)).astype(np.float64)
        counts, r = _respond(spikes, weight, shown.keep)
        trace = trace * shown.keep[:, None] ** shown.steps + ages.T @ spikes[0]
        shift = np.where(r[0] >= LEAST, 2.0 ** -np.floor(np.log2(np.maximum(r[0], LEAST))), 0.0)
        error = np.where(targets >= 0, targets - counts[0] / shown.steps, 0.0)
        third = (shown.gate * shift)[:, None] * error
        change = ETA * third[:, :, None] * trace[:, None]
        if generator is None:
            weight = weight + change
        else:
            moved = (weight + change) / LSB + generator.random(weight.shape)
            weight = np.where(change != 0, np.floor(moved).clip(-LARGEST, LARGEST) * LSB, weight)
        yield third, weight


def answer(shown: Shown, weight: np.ndarray) -> np.ndarray:
    """Output spikes [samples, classes] without learning."""
    weight, parts = weight.astype(np.float32), []
    for start in range(0, len(shown.labels), BATCH):
        spikes = shown.spikes(slice(start, start + BATCH)).astype(np.float32)
        parts.append(_respond(spikes, weight, shown.keep)[0])
    return np.concatenate(parts)


def show(deployed: Deployment, position: int, split: str, samples: int) -> Shown:
    """What a layer of the deployed network sends for images of a task, drawn at random."""
    of, net, p = deployed.trial, deployed.net, deployed.trial.params
    if len(net.names) <= LAYER:
        raise UserError(
            f"readout_layers = {p.readout_layers}: only {net.names[0]} is deployed, and the chip's "
            "rule learns from the layer after it; name a deeper layer"
        )
    images, drive, name = of.open(position, split), deployed.drive(position), net.names[LAYER]
    rows = np.sort(np.random.default_rng(of.seed).permutation(len(images))[:samples])
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
        np.array([p.tau_fast_ms, p.tau_slow_ms]), np.array([p.gamma, 1 - p.gamma]),
    )  # fmt: skip


class Compared(NamedTuple):
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
    choice = {"readout_rate": 1.0, "readout_l2": 1e-4, "projector": "none"}
    delta = DeltaCurrent(inputs + 1, classes, deployed.trial.params.with_(**choice))
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
            part = replace(
                shown, packed=shown.packed[rows_of_part], labels=shown.labels[rows_of_part]
            )
            for rule, generator in generators.items():
                for _, weight in lessons(part, weights[rule], generator):
                    weights[rule] = weight
            for counts, label in zip(_counts(part), part.labels, strict=True):
                delta.learn(counts, torch.tensor([label]), part.taught)
            done += len(part.labels)
            judge(done)
    curves = pd.DataFrame(rows, columns=["rule", "samples", "task", "accuracy"])
    theirs = delta.weight[:-1].T.numpy()
    return Compared(curves, float(_cosine(weights[CHIP].sum(0), theirs).mean()))


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
