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

import numpy as np
from torch import Tensor

from ltgate import checkpoint
from ltgate.data.tasks import Schedule, schedule
from ltgate.errors import UserError
from ltgate.files import atomic
from ltgate.network import Layer, Network
from ltgate.neurons import COMPILED, Dynamics
from ltgate.params import Params

COMPARTMENTS = ("first", "second")


def export(source: str | Path, target: str | Path, task: int = 0) -> Path:
    """Write the network of a trial's snapshot (``task<i>.safetensors``) as a NIR file.

    ``task`` is the position of the task whose clock the graph gets.
    """
    from ltgate import methods  # here, because methods are far above

    tensors, plain = checkpoint.load(source)
    about = plain.get("about")
    if about is None:
        raise UserError(f"{source}: is no snapshot that tells its parameters; train it anew")
    params = Params(**about["parameters"])
    if not 0 <= task < len(params.tasks):
        raise UserError(f"task = {task}: must be 0 to {len(params.tasks) - 1}")
    learner = methods.create(about["method"], params, np.random.default_rng(0))
    learner.load_snapshot(tensors, plain)
    clock = schedule(params.tasks[task], params.presentation)
    return write(target, learner.network, clock)


def write(path: str | Path, network: Network, clock: Schedule) -> Path:
    """Write ``network`` under one clock as a NIR file."""
    import nir

    with atomic(path) as temporary:
        nir.write(temporary, to_nir(network, clock))
    return Path(path)


def to_nir(network: Network, clock: Schedule) -> Any:
    """``network`` as a NIR graph; the input is pixels / 256 times the clock's drive."""
    import nir

    dynamics = network.dynamics
    if dynamics.output not in COMPILED or (dynamics.blended and not dynamics.subtracts):
        raise UserError(
            f"output = {dynamics.output!r} with reset = {dynamics.reset!r}: has no NIR graph"
        )
    first = network.layers[0]
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array(first.in_shape)})}
    edges: list[tuple[str, str]] = []
    before = "input"
    for layer in network.layers:
        before = _add(nodes, edges, layer, dynamics, clock, before)
    nodes["output"] = nir.Output({"output": np.array(_shape(network.layers[-1]))})
    edges.append((before, "output"))
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
    nodes: dict[str, Any],
    edges: list[tuple[str, str]],
    layer: Layer,
    dynamics: Dynamics,
    clock: Schedule,
    before: str,
) -> str:
    """Add one layer after the node ``before``; returns the node of its spikes."""
    import nir

    name, shape = layer.name, _shape(layer)
    decay = dynamics.decay(clock.dt_ms).astype(float)
    gain = dynamics.gain(clock.charge_ms).astype(float)
    theta = _spread(layer, layer.threshold)
    gate = layer.forward_gate.cpu().numpy()

    def node(role: str, value: Any, *sources: str) -> str:
        nodes[f"{name}_{role}"] = value
        edges.extend((source, f"{name}_{role}") for source in sources)
        return f"{name}_{role}"

    if not layer.is_conv and len(layer.in_shape) == 3 and layer.in_shape[1:] != (1, 1):
        flat = nir.Flatten({"input": np.array(layer.in_shape)}, start_dim=0, end_dim=-1)
        before = node("flatten", flat, before)
    ends, membranes = [], []
    for index in range(dynamics.compartments):
        part = COMPARTMENTS[index]
        current = node(f"{part}_synapses", _synapses(layer, index), before)
        full = _leaky(shape, dynamics.tau_ms[index], gain[index] / (1 - decay[index]))
        if not dynamics.subtracts:
            spiking = nir.LIF(**full, v_threshold=below(theta[index]), v_reset=np.zeros(shape))
            ends.append(node(part, spiking, current))
            continue
        membrane = node(part, nir.LI(**full), current)
        membranes.append(membrane)
        if dynamics.blended:
            share = gate if index == 0 else 1 - gate
            ends.append(node(f"{part}_share", nir.Scale(_positions(layer, share)), membrane))
            continue
        spikes = node(f"{part}_spikes", nir.Threshold(below(theta[index])), membrane)
        _reset(node, part, theta[index], decay[index] / gain[index], spikes, membrane, edges)
        ends.append(spikes)
    level = below(theta[0]) if dynamics.blended else np.full(shape, 0.5)
    spikes = node("spikes", nir.Threshold(level), *ends)
    if dynamics.blended:
        for index, membrane in enumerate(membranes):
            factor = decay[index] / gain[index]
            _reset(node, COMPARTMENTS[index], theta[0], factor, spikes, membrane, edges)
    return spikes


def _leaky(shape: tuple[int, ...], tau_ms: float, resistance: float) -> dict[str, np.ndarray]:
    """What nodes that integrate take."""
    return {
        "tau": np.full(shape, tau_ms / 1000),
        "r": np.full(shape, resistance),
        "v_leak": np.zeros(shape),
    }


def _reset(
    node: Any,
    part: str,
    theta: np.ndarray,
    factor: float,
    spikes: str,
    membrane: str,
    edges: list[tuple[str, str]],
) -> None:
    """A spike takes theta off the membrane: as a current that arrives with the next step."""
    import nir

    edges.append((node(f"{part}_reset", nir.Scale(-theta * factor), spikes), membrane))


def _synapses(layer: Layer, index: int) -> Any:
    import nir

    weight = layer.forward_weight[index].cpu().numpy()
    if not layer.is_conv:
        return nir.Linear(weight)
    bias = np.zeros(len(weight), np.float32)
    return nir.Conv2d(layer.in_shape[1:], weight, layer.stride, 1, 1, 1, bias)


def below(threshold: np.ndarray) -> np.ndarray:
    """The next smaller float32: v > below(theta) exactly when v >= theta, for float32 v."""
    return np.nextafter(threshold.astype(np.float32), np.float32(-np.inf))


def _spread(layer: Layer, values: Tensor) -> np.ndarray:
    """Values per channel [K, out] at every neuron."""
    return np.stack([_positions(layer, row) for row in values.cpu().numpy()])


def _positions(layer: Layer, row: np.ndarray) -> np.ndarray:
    shape = _shape(layer)
    return np.broadcast_to(row.reshape(-1, *[1] * (len(shape) - 1)), shape).copy()


def _shape(layer: Layer) -> tuple[int, ...]:
    return layer.out_shape if layer.is_conv else layer.out_shape[:1]
