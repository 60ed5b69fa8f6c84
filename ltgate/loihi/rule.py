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

from dataclasses import dataclass, replace

import numpy as np

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
