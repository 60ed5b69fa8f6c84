"""Networks as NIR graphs (Neuromorphic Intermediate Representation).

One compartment is a leaky integrator (LI); a neuron is the graph that it is:

    or      spikes -> synapses_c -> LI_c -> Threshold_c -> sum -> Threshold(1/2), one LI per c
    blend   spikes -> synapses_c -> LI_c -> Scale(gamma_c) -> sum -> Threshold, one LI per c

An LI under a current that is constant over a step is ``v' = a v + (1 - a) R I``; here R makes
(1 - a) R the gain of the neuron's equation, which for ``raw`` currents depends on the step: a graph
belongs to one clock, ``dt_ms`` in its metadata. A reset by subtraction is a Scale from the spike
back to the LI, which arrives with the next step's input; a reset to zero is an LIF in the place of
LI and Threshold, or, for ``blend``, not expressible in NIR. NIR compares with ``>``, so thresholds
are written as the next smaller float32.

Source: Pedersen et al. 2024, "Neuromorphic intermediate representation", Nature Communications 15.
"""

from pathlib import Path
from typing import Any

import nir
import numpy as np
from torch import Tensor

from ltgate import checkpoint
from ltgate.data.tasks import Schedule, schedule
from ltgate.errors import UserError
from ltgate.files import atomic
from ltgate.network import Layer, Network
from ltgate.neurons import COMPILED
from ltgate.params import Params

COMPARTMENTS = ("first", "second")


def export(source: str | Path, target: str | Path, task: int = 0) -> Path:
    """Write the network of a trial's snapshot (``task<i>.safetensors``) as a NIR file.

    ``task`` is the position of the task whose clock the graph gets.
    """
    from ltgate import memory, methods  # here, because methods are far above

    def take(tensors: dict[str, Tensor], plain: dict[str, Any]) -> tuple[Params, Network]:
        about = plain.get("about")
        if about is None:
            raise UserError("is no snapshot that tells its parameters; train it anew")
        params = Params(**about["parameters"])
        configured = methods.METHODS[about["method"]].configure(params)
        memory.check(memory.parts(configured, [0], 1))
        learner = methods.create(about["method"], params, np.random.default_rng(0))
        learner.load_snapshot(tensors, plain)
        return params, learner.network

    params, network = checkpoint.restore(source, take)
    if not 0 <= task < len(params.tasks):
        raise UserError(f"task = {task}: must be 0 to {len(params.tasks) - 1}")
    return write(target, network, schedule(params.tasks[task], params.presentation))


def write(path: str | Path, network: Network, clock: Schedule) -> Path:
    """Write ``network`` under one clock as a NIR file."""
    with atomic(path) as temporary:
        nir.write(temporary, to_nir(network, clock))
    return Path(path)


def to_nir(network: Network, clock: Schedule) -> nir.NIRGraph:
    """``network`` as a NIR graph; the input is pixels / 256 times the clock's drive."""
    dynamics = network.dynamics
    if dynamics.output not in COMPILED or (dynamics.blended and not dynamics.subtracts):
        raise UserError(
            f"output = {dynamics.output!r} with reset = {dynamics.reset!r}: has no NIR graph"
        )
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []

    def add(name: str, node: Any, *sources: str) -> str:
        nodes[name] = node
        edges.extend((source, name) for source in sources)
        return name

    before = add("input", nir.Input({"input": np.array(network.layers[0].in_shape)}))
    for layer in network.layers:
        before = _add(layer, network, clock, before, add, edges)
    add("output", nir.Output({"output": np.array(_shape(network.layers[-1]))}), before)
    metadata = {
        "dt_ms": float(clock.dt_ms),
        "tau_ms": np.array(dynamics.tau_ms),
        "output": dynamics.output,
        "current": dynamics.current,
        "reset": dynamics.reset,
        "layers": ",".join(network.names),
    }
    return nir.NIRGraph(nodes, edges, metadata)


def _add(
    layer: Layer, network: Network, clock: Schedule, before: str, add: Any, edges: list
) -> str:
    """Add one layer after the node ``before``; returns the node of its spikes."""
    dynamics, shape = network.dynamics, _shape(layer)
    decay = dynamics.decay(clock.dt_ms).astype(float)
    gain = dynamics.gain(clock.charge_ms).astype(float)
    theta = [_spread(layer, row) for row in layer.threshold]
    gate = _spread(layer, layer.forward_gate)
    if not layer.is_conv and len(layer.in_shape) == 3 and layer.in_shape[1:] != (1, 1):
        flat = nir.Flatten({"input": np.array(layer.in_shape)}, start_dim=0, end_dim=-1)
        before = add(f"{layer.name}_flatten", flat, before)
    ends, resets = [], []  # what makes spikes; what a spike takes off each membrane
    for index, part in enumerate(COMPARTMENTS[: dynamics.compartments]):
        name = f"{layer.name}_{part}"
        current = add(f"{name}_synapses", _synapses(layer, index), before)
        leaky = {
            "tau": np.full(shape, dynamics.tau_ms[index] / 1000),
            "r": np.full(shape, gain[index] / (1 - decay[index])),
            "v_leak": np.zeros(shape),
        }
        if not dynamics.subtracts:
            spiking = nir.LIF(**leaky, v_threshold=below(theta[index]), v_reset=np.zeros(shape))
            ends.append(add(name, spiking, current))
            continue
        membrane = add(name, nir.LI(**leaky), current)
        if dynamics.blended:
            share = nir.Scale(gate if index == 0 else 1 - gate)
            ends.append(add(f"{name}_share", share, membrane))
        else:
            ends.append(add(f"{name}_spikes", nir.Threshold(below(theta[index])), membrane))
        level = theta[0 if dynamics.blended else index]
        # A current that arrives with the next step.
        resets.append((f"{name}_reset", nir.Scale(-level * (decay[index] / gain[index])), membrane))
    level = below(theta[0]) if dynamics.blended else np.full(shape, 0.5)
    spikes = add(f"{layer.name}_spikes", nir.Threshold(level), *ends)
    sources = [spikes] * 2 if dynamics.blended else ends
    for (name, scale, membrane), source in zip(resets, sources, strict=False):
        edges.append((add(name, scale, source), membrane))
    return spikes


def _synapses(layer: Layer, index: int) -> nir.NIRNode:
    weight = layer.forward_weight[index].cpu().numpy()
    if not layer.is_conv:
        return nir.Linear(weight)
    bias = np.zeros(len(weight), np.float32)
    return nir.Conv2d(layer.in_shape[1:], weight, layer.stride, 1, 1, 1, bias)


def below(threshold: np.ndarray) -> np.ndarray:
    """The next smaller float32: v > below(theta) exactly when v >= theta, for float32 v."""
    return np.nextafter(threshold.astype(np.float32), np.float32(-np.inf))


def _spread(layer: Layer, row: Tensor) -> np.ndarray:
    """Values per channel [K] at every neuron."""
    shape = _shape(layer)
    values = row.cpu().numpy().reshape(-1, *[1] * (len(shape) - 1))
    return np.broadcast_to(values, shape).copy()


def _shape(layer: Layer) -> tuple[int, ...]:
    return layer.out_shape if layer.is_conv else layer.out_shape[:1]
