r"""Neurons and synapses on the cores of a Loihi 2 chip.

The compiler for the chip is not public. These rules were fitted to what it printed for one network
(PilotNet, lava-dl tutorial ``pilotnet_snn/benchmark.ipynb``) and are an estimate:

* convolution: a core takes whole columns of the output, as many as a power of two allows with
  columns x height x channels <= 3,168 neurons (of two state words: PilotNet's have current and
  voltage, ours at most two membranes);
* its weights lie once in every core that has a part of the layer: out x in x 9 x K bytes <= 48 kB;
* dense: n outputs a core with (ceil(8 n K / 32) + 1) x inputs words of 32 bits <= 12,000.

They gave 9 of PilotNet's 10 rows and 71 of its 74 cores, 4 of 5 for a held-out network: low by 4 to
20 %, hence the margin of 25 %. Chip: 128 cores (Intel 2021); 32 rows of routers are drawn 16 x 8.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ltgate.errors import UserError
from ltgate.loihi.quantnet import QuantNetwork
from ltgate.network import KERNEL, Network

CORES = 128
NEURONS = 3168
WORDS = 12_000
WORD_BITS = 32
MARGIN = 1.25
STATE_WORDS = 2  # of a neuron


class DoesNotFit(UserError):
    """The network needs more than the chip has."""


class Shape(NamedTuple):
    """What the rules need to know of a layer: its output's sizes.

    ``inputs``: fan-in of a dense layer (``kernel`` 0), or input channels of a convolution;
    ``compartments``: K; ``bits`` of a weight: 0 at the input, which has none.
    """

    name: str
    width: int
    height: int
    channels: int
    inputs: int
    kernel: int = 0
    compartments: int = 1
    bits: int = 8

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return self.width * self.height * self.channels


class Placed(NamedTuple):
    """A layer of ``total`` neurons on its cores; ``neurons`` and 32-bit ``words`` of synapses are
    those of its fullest core."""

    layer: str
    cores: int
    neurons: int
    words: int
    total: int


@dataclass(frozen=True)
class Mapping:
    """All layers on the chip."""

    placed: list[Placed]

    @property
    def bare(self) -> int:
        """Cores by the rules alone."""
        return sum(part.cores for part in self.placed)

    @property
    def cores(self) -> int:
        """With the margin."""
        return math.ceil(self.bare * MARGIN)

    def table(self) -> pd.DataFrame:
        """A row per layer.

        ``memory_kb``: synapses and membranes of its fullest core, in kilobytes; ``neurons_used``
        and ``synapses_used``: shares of what a core can take.
        """
        rows = [
            {
                "layer": part.layer, "cores": part.cores, "neurons": part.total,
                "neurons_per_core": part.neurons, "neurons_used": part.neurons / NEURONS,
                "synapse_words": part.words, "synapses_used": part.words / WORDS,
                "memory_kb": (part.words + STATE_WORDS * part.neurons) * WORD_BITS / 8 / 1e3,
            }
            for part in self.placed
        ]  # fmt: skip
        return pd.DataFrame(rows)


def shapes(network: Network | QuantNetwork, bits: int) -> list[Shape]:
    """A network, of floats or integers, as the rules see it, its input population first."""
    channels, height, width = network.layers[0].in_shape
    found = [Shape("input", width, height, channels, 1, bits=0)]
    for layer in network.layers:
        channels, height, width = layer.out_shape
        inputs = layer.in_shape[0] if layer.is_conv else math.prod(layer.in_shape)
        kernel = KERNEL * layer.is_conv
        sizes = width, height, channels, inputs, kernel, network.compartments
        found.append(Shape(layer.name, *sizes, bits))
    return found


def readout_shapes(sizes: dict[str, int], classes: int) -> list[Shape]:
    """The readout of :mod:`.quantise`: counter neurons of each view, and its weights."""
    found = []
    for view, size in sizes.items():
        found.append(Shape(f"count {view}", size, 1, 1, 1, bits=0))
        found.append(Shape(f"read {view}", 1, 1, classes, size))
    return found


def place(layers: list[Shape], spread: int = 1) -> Mapping:
    """Put layers on cores.

    Args:
        layers: As :func:`shapes` gives them.
        spread: Divides what a core of a convolution takes: more cores, each with less to do.

    Raises:
        DoesNotFit: The layer, the limit, the number and what would help.
    """
    made = Mapping([place_layer(layer, spread) for layer in layers])
    if made.cores > CORES:
        widest = max(made.placed, key=lambda part: part.cores)
        raise DoesNotFit(
            f"{widest.layer}: {widest.cores} of {made.bare} cores ({made.cores} with a margin of "
            f"{MARGIN:g}); the chip has {CORES}: fewer inputs or neurons there (a larger "
            "stride before it), fewer channels, or no dense layer would help"
        )
    return made


def place_layer(layer: Shape, spread: int = 1) -> Placed:
    """One layer on as many cores as it needs, also if the chip has fewer."""
    bits = layer.bits * layer.compartments
    if layer.kernel or not layer.bits:  # a convolution, or neurons without weights: whole columns
        column = layer.height * layer.channels
        if column > NEURONS:
            raise DoesNotFit(
                f"{layer.name}: one column of {layer.height} x {layer.channels} neurons is "
                f"{column}; a core takes {NEURONS}: fewer channels or a larger stride would help"
            )
        words = math.ceil(layer.channels * layer.inputs * layer.kernel**2 * bits / WORD_BITS)
        if words > WORDS:
            raise DoesNotFit(
                f"{layer.name}: its weights take {words} words of 32 bits; a core takes {WORDS}: "
                "fewer channels or weight bits would help"
            )
        columns = 2 ** int(math.log2(NEURONS // column))
        columns = max(1, min(columns, layer.width) // spread)
        cores = math.ceil(layer.width / columns)
        return Placed(layer.name, cores, columns * column, words, layer.neurons)
    most = max(WORDS // layer.inputs - 1, 0) * WORD_BITS // bits
    outputs = min(max(most, 1), layer.neurons, NEURONS)
    words = (math.ceil(bits * outputs / WORD_BITS) + 1) * layer.inputs
    if most < 1:
        raise DoesNotFit(
            f"{layer.name}: one neuron's {layer.inputs} inputs take {words} words of 32 bits; a "
            f"core takes {WORDS}: fewer inputs (a larger stride before it) would help"
        )
    return Placed(layer.name, math.ceil(layer.neurons / outputs), outputs, words, layer.neurons)


def pilotnet() -> list[tuple[Shape, int]]:
    """What lava-dl's compiler printed for PilotNet: layers and their cores, the input's too."""
    rows = pd.read_csv(Path(__file__).with_name("pilotnet.csv"))
    return [(Shape(*sizes), cores) for *sizes, cores in rows.itertuples(index=False, name=None)]
