r"""Neurons and synapses on the cores of a Loihi 2 chip.

The compiler for the chip is not public. These rules were fitted to what it printed for one network
(PilotNet, lava-dl tutorial ``pilotnet_snn/benchmark.ipynb``) and are an estimate:

* convolution: a core takes whole columns of the output, as many as a power of two allows with
  columns x height x channels x state words / 2 <= 3,168 (a neuron of PilotNet has two state words,
  current and voltage; ours has one membrane a compartment, so the same two);
* its weights lie once in every core that has a part of the layer: out x in x 9 x K bytes <= 48 kB;
* dense: n outputs a core with (ceil(8 n K / 32) + 1) x inputs words of 32 bits <= 12,000.

They gave 9 of PilotNet's 10 rows and 71 of its 74 cores, 4 of 5 for a held-out network: low by 4 to
20 %, hence the margin of 25 %. Chip: 128 cores (Intel 2021); 32 rows of routers are drawn 16 x 8.
"""

import math
from dataclasses import dataclass

import pandas as pd

from ltgate.errors import UserError
from ltgate.loihi.quantnet import QuantNetwork
from ltgate.network import KERNEL

CORES = 128
NEURONS = 3168
WORDS = 12_000
WORD_BITS = 32
MARGIN = 1.25
STATE_WORDS = 2  # of the neurons that NEURONS was fitted to


class DoesNotFit(UserError):
    """The network needs more than the chip has."""


@dataclass(frozen=True)
class Shape:
    """What the rules need to know of a layer; K compartments, ``kernel`` = (width, height).

    ``width``, ``height``, ``channels`` are the output's; ``inputs`` the fan-in of a dense layer, or
    the input channels of a convolution. ``bits`` of a weight.
    """

    name: str
    width: int
    height: int
    channels: int
    inputs: int
    kernel: int = 0
    compartments: int = 1
    state_words: int = STATE_WORDS
    bits: int = 8

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return self.width * self.height * self.channels


@dataclass(frozen=True)
class Placed:
    """A layer on its cores.

    Attributes:
        layer: Its name.
        cores: How many.
        neurons, words: Of its fullest core: neurons, and 32-bit words of synapses.
        capacity: Neurons that a core could take, given their state.
        total: Neurons of the layer.
    """

    layer: str
    cores: int
    neurons: int
    words: int
    capacity: int
    total: int


@dataclass(frozen=True)
class Mapping:
    """All layers on the chip; ``cores`` and ``share`` include the margin."""

    placed: list[Placed]
    margin: float = MARGIN
    available: int = CORES

    @property
    def bare(self) -> int:
        """Cores by the rules alone."""
        return sum(part.cores for part in self.placed)

    @property
    def cores(self) -> int:
        """With the margin."""
        return math.ceil(self.bare * self.margin)

    @property
    def share(self) -> float:
        """Share of the chip's cores, with the margin."""
        return self.cores / self.available

    def table(self) -> pd.DataFrame:
        """A row per layer.

        ``memory_kb``: synapses and membranes of its fullest core, in kilobytes; ``neurons_used``
        and ``synapses_used``: shares of what a core can take.
        """
        rows = [
            {
                "layer": part.layer,
                "cores": part.cores,
                "neurons": part.total,
                "neurons_per_core": part.neurons,
                "neurons_used": part.neurons / part.capacity,
                "synapse_words": part.words,
                "synapses_used": part.words / WORDS,
                "memory_kb": (part.words + STATE_WORDS * part.neurons) * WORD_BITS / 8 / 1e3,
            }
            for part in self.placed
        ]
        return pd.DataFrame(rows)


def shapes(net: QuantNetwork) -> list[Shape]:
    """The integer network as the rules see it, its input population first."""
    return layer_shapes(net.layers, net.compartments, net.weight_bits)


def layer_shapes(layers: list, compartments: int, bits: int) -> list[Shape]:
    """Layers, of an integer or a float network, as the rules see them; the input first."""
    channels, height, width = layers[0].in_shape
    found = [Shape("input", width, height, channels, 1, bits=0)]
    for layer in layers:
        channels, height, width = layer.out_shape
        before = layer.in_shape
        inputs = before[0] if layer.is_conv else before[0] * before[1] * before[2]
        words = max(STATE_WORDS, compartments)
        found.append(
            Shape(layer.name, width, height, channels, inputs, KERNEL * layer.is_conv,
                  compartments, words, bits)
        )  # fmt: skip
    return found


def place(
    layers: list[Shape], margin: float = MARGIN, available: int = CORES, spread: int = 1
) -> Mapping:
    """Put layers on cores.

    Args:
        layers: As :func:`shapes` gives them.
        margin: Factor on the rules' number of cores.
        available: Cores of the chip.
        spread: Divides what a core of a convolution takes: more cores, each with less to do.

    Raises:
        DoesNotFit: The layer, the limit, the number and what would help.
    """
    made = Mapping([_place(layer, spread) for layer in layers], margin, available)
    if made.cores > available:
        widest = max(made.placed, key=lambda part: part.cores)
        raise DoesNotFit(
            f"{widest.layer}: {widest.cores} of {made.bare} cores ({made.cores} with a margin of "
            f"{margin:g}); the chip has {available}: fewer inputs or neurons there (a larger "
            "stride before it), fewer channels, or no dense layer would help"
        )
    return made


def _place(layer: Shape, spread: int) -> Placed:
    capacity = NEURONS * STATE_WORDS // layer.state_words
    if layer.kernel or not layer.bits:
        column = layer.height * layer.channels
        if column > capacity:
            raise DoesNotFit(
                f"{layer.name}: one column of {layer.height} x {layer.channels} neurons is "
                f"{column}; a core takes {capacity}: fewer channels or a larger stride would help"
            )
        bits = layer.channels * layer.inputs * layer.kernel**2 * layer.compartments * layer.bits
        words = math.ceil(bits / WORD_BITS)
        if words > WORDS:
            raise DoesNotFit(
                f"{layer.name}: its weights take {words} words of 32 bits; a core takes {WORDS}: "
                "fewer channels or weight bits would help"
            )
        columns = 2 ** int(math.log2(capacity // column))
        columns = max(1, min(columns, layer.width) // spread)
        cores = math.ceil(layer.width / columns)
        return Placed(layer.name, cores, columns * column, words, capacity, layer.neurons)
    per_core = _outputs(layer)
    if per_core < 1:
        words = (math.ceil(layer.bits * layer.compartments / WORD_BITS) + 1) * layer.inputs
        raise DoesNotFit(
            f"{layer.name}: one neuron's {layer.inputs} inputs take {words} words of 32 bits; a "
            f"core takes {WORDS}: fewer inputs (a larger stride before it) would help"
        )
    per_core = min(per_core, layer.neurons, capacity)
    words = (math.ceil(layer.bits * layer.compartments * per_core / WORD_BITS) + 1) * layer.inputs
    cores = math.ceil(layer.neurons / per_core)
    return Placed(layer.name, cores, per_core, words, capacity, layer.neurons)


def _outputs(layer: Shape) -> int:
    """The most outputs n of a dense layer on one core."""
    words = WORDS // layer.inputs - 1
    return max(words, 0) * WORD_BITS // (layer.bits * layer.compartments)


def readout_shapes(sizes: dict[str, int], classes: int) -> list[Shape]:
    """The readout of :mod:`.quant_readout`: counter neurons of each view, and its weights."""
    found = []
    for view, size in sizes.items():
        found.append(Shape(f"count {view}", size, 1, 1, 1, bits=0))
        found.append(Shape(f"read {view}", 1, 1, classes, size))
    return found


# What lava-dl's compiler printed for PilotNet: layer -> cores; its input is a population too.
PILOTNET = [
    (Shape("input", 200, 66, 3, 1, bits=0), 13),
    (Shape("conv1", 99, 32, 24, 3, 3), 25),
    (Shape("conv2", 49, 15, 36, 24, 3), 13),
    (Shape("conv3", 24, 7, 48, 36, 3), 3),
    (Shape("conv4", 22, 4, 64, 48, 3), 3),
    (Shape("conv5", 20, 2, 64, 64, 3), 2),
    (Shape("dense1", 1, 1, 100, 2560), 12),
    (Shape("dense2", 1, 1, 50, 100), 1),
    (Shape("dense3", 1, 1, 10, 50), 1),
    (Shape("dense4", 1, 1, 1, 10), 1),
]


def pilotnet() -> pd.DataFrame:
    """The rules beside the compiler: ``layer``, ``cores`` (estimate), ``published``."""
    rows = [
        {"layer": shape.name, "cores": _place(shape, 1).cores, "published": cores}
        for shape, cores in PILOTNET
    ]
    return pd.DataFrame(rows)
