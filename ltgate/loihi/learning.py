r"""Learning on the chip: the last layer by a rule that Loihi's synapses have.

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

import numpy as np
import pandas as pd
import torch

from ltgate.data.tasks import schedule
from ltgate.loihi import lava_backend, twin
from ltgate.loihi.deploy import Deployment
from ltgate.plasticity.readout import Delta, features

ETA = 2.0**6
TARGET = 0.5
LEAST = 1.0  # input below which a compartment does not learn: its shift would turn round
LAYER = 1  # whose spikes the class neurons see: the second convolution
LSB = 2.0**-4  # of a weight in 8 bits
LARGEST = 127
POINTS = 4  # of the curve, a task
BATCH = 16
CHECKED = 512


@dataclass(frozen=True)
class Shown:
    """Spikes of the layer below, sample by sample.

    Attributes:
        packed: uint8 [samples, T, inputs / 8], bits as :func:`numpy.packbits` has them.
        inputs: How many neurons.
        labels: [samples].
        taught: Classes that a lesson is about.
        classes: How many output neurons.
        gamma: The gate.
        tau: tau_c in steps of 1 ms, fast and slow.
    """

    packed: np.ndarray
    inputs: int
    labels: np.ndarray
    taught: list[int]
    classes: int
    gamma: float
    tau: tuple[float, float]

    @property
    def keep(self) -> np.ndarray:
        """exp(-1/tau_c), [2]."""
        return np.exp(-1 / np.array(self.tau))

    @property
    def steps(self) -> int:
        """T."""
        return self.packed.shape[1]

    @property
    def gate(self) -> np.ndarray:
        """gamma_c, [2]."""
        return np.array([self.gamma, 1 - self.gamma])

    def spikes(self, rows: slice) -> np.ndarray:
        """uint8 [samples, T, inputs]."""
        return np.unpackbits(self.packed[rows], axis=2, count=self.inputs)

    def part(self, rows: np.ndarray) -> "Shown":
        """Some of the samples."""
        return replace(self, packed=self.packed[rows], labels=self.labels[rows])

    def targets(self) -> np.ndarray:
        """y*, [samples, classes]; -1: no lesson."""
        shown = self.labels[:, None] == np.arange(self.classes)
        taught = np.isin(np.arange(self.classes), self.taught)
        return np.where(taught, TARGET * shown, -1.0)


def show(deployed: Deployment, position: int, split: str, samples: int) -> Shown:
    """What a layer of the deployed network sends for images of a task, drawn at random."""
    of, net = deployed.trial, deployed.net
    images, task = of.open(position, split), of.tasks[position]
    drive = schedule(task, of.params.presentation).drive
    rows = np.random.default_rng(of.seed).permutation(len(images))[:samples]
    pixels, name = images.images[np.sort(rows)], net.names[min(LAYER, len(net.names) - 1)]
    parts = []
    for start in range(0, len(rows), BATCH):
        run = twin.forward(net, pixels[start : start + BATCH], drive, raster=(name,))
        spikes = run.rasters[name].flatten(2).numpy()
        parts.append(np.packbits(spikes.swapaxes(0, 1), axis=2))
    mixed = np.random.default_rng(of.seed + 1).permutation(len(rows))
    return Shown(
        np.concatenate(parts)[mixed], spikes.shape[2], images.labels[np.sort(rows)][mixed],
        list(task.classes), deployed.learner.classes, of.params.gamma,
        (of.params.tau_fast_ms, of.params.tau_slow_ms),
    )  # fmt: skip


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


def learn(
    shown: Shown, weight: np.ndarray, generator: np.random.Generator | None = None
) -> np.ndarray:
    """New weights [2, classes, inputs], sample by sample.

    With a ``generator`` they have 8 bits in units of ``LSB``, and each step is rounded at random.
    """
    weight = weight.copy()
    ages = shown.keep ** np.arange(shown.steps - 1, -1, -1)[:, None]
    trace = np.zeros((2, shown.inputs))
    for sample, targets in enumerate(shown.targets()):
        spikes = shown.spikes(slice(sample, sample + 1)).astype(np.float64)
        counts, r = _respond(spikes, weight, shown.keep)
        trace = trace * shown.keep[:, None] ** shown.steps + ages.T @ spikes[0]
        third = third_factor(targets, counts[0] / shown.steps, r[0], shown.gate)
        change = ETA * third[:, :, None] * trace[:, None]
        if generator is not None:
            moved = (weight + change) / LSB + generator.random(weight.shape)
            weight = np.where(change != 0, np.floor(moved).clip(-LARGEST, LARGEST) * LSB, weight)
        else:
            weight += change
    return weight


def third_factor(
    targets: np.ndarray, rates: np.ndarray, r: np.ndarray, gate: np.ndarray
) -> np.ndarray:
    """y_c, [2, classes], from y* and S/T [classes], r [2] and gamma_c [2]."""
    shift = np.where(r >= LEAST, 2.0 ** -np.floor(np.log2(np.maximum(r, LEAST))), 0.0)
    error = np.where(targets >= 0, targets - rates, 0.0)
    return (gate * shift)[:, None] * error


def answer(shown: Shown, weight: np.ndarray) -> np.ndarray:
    """Output spikes [samples, classes] without learning."""
    flat = weight.astype(np.float32)
    return np.concatenate(
        [
            _respond(spikes.astype(np.float32), flat, shown.keep)[0]
            for start in range(0, len(shown.labels), BATCH)
            for spikes in [shown.spikes(slice(start, start + BATCH))]
        ]
    )


def learn_in_lava(shown: Shown, weight: np.ndarray, seconds: float = 300.0) -> np.ndarray:
    """The same in Lava: two ``LearningDense`` under a ``Loihi3FLearningRule``, floating point."""
    lava_backend.require()
    from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
    from lava.proc.dense.process import Dense, LearningDense

    from ltgate.loihi.lava_backend.processes.frames import FrameSource
    from ltgate.loihi.lava_backend.processes.learning import LearningLTGate
    from ltgate.loihi.lava_backend.session import Session

    fast, slow = shown.tau
    traces = {"x1_impulse": 1, "x1_tau": fast, "x2_impulse": 1, "x2_tau": slow}
    rules = [
        Loihi3FLearningRule(dw=f"u0 * x{k} * y{k}", t_epoch=1, rng_seed=0, **traces) for k in (1, 2)
    ]
    spikes = shown.spikes(slice(None)).reshape(-1, shown.inputs)
    source = FrameSource(images=spikes, drive=np.ones(1, int))
    teacher = FrameSource(images=shown.targets(), drive=np.ones(shown.steps, int))
    neurons = LearningLTGate(
        shape=(shown.classes,), learning_rule=rules[0], keep=shown.keep, theta=1 - shown.keep,
        gate=shown.gate, eta=ETA, interval=shown.steps,
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
    delta = Delta.create(inputs + 1, classes, rate=1.0, l2=1e-4, current_only=True)
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
