"""Ways to run a network over time. All give the same spikes, bit for bit.

A backend is a module, or any object, with a ``NAME``, ``available(device) -> bool`` and::

    forward(network, images, schedule, trace_decay=None, raster=()) -> Activity

Adding one is one file and one entry in ``BACKENDS``.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltgate.data.tasks import Schedule
from ltgate.errors import NotFinite, UserError
from ltgate.network import Network
from ltgate.neurons import COMPILED

# name -> module, imported when used, or the backend itself. ``auto`` takes the first that can:
# event on CPUs, gpu on CUDA devices. ``OUTPUTS`` of a backend are the neurons that it knows, if it
# does not know all.
BACKENDS: dict[str, str | Any] = {
    "event": "ltgate.backends.event",
    "gpu": "ltgate.backends.gpu",
    "portable": "ltgate.backends.portable",
}


@dataclass
class Activity:
    """What one forward pass over a batch of B images and T steps leaves.

    Attributes:
        steps: T.
        counts: Per layer, spikes of each neuron over all steps, int32 [B, channels, height, width].
        crossings: Per layer, threshold crossings of each compartment, summed over steps and
            positions, int64 [B, C, channels].
        updates: Only when ``trace_decay`` was given. Per layer, the raw Hebbian correlation
            sum over t, b and positions of post[t] x trace_c[t], float32, shaped like the weights.
        rasters: For the layers named in ``raster``, spikes uint8 [T, B, channels, height, width].
    """

    steps: int
    counts: dict[str, Tensor] = field(default_factory=dict)
    crossings: dict[str, Tensor] = field(default_factory=dict)
    updates: dict[str, Tensor] = field(default_factory=dict)
    rasters: dict[str, Tensor] = field(default_factory=dict)


def forward(
    network: Network,
    images: np.ndarray | Tensor,
    schedule: Schedule,
    trace_decay: np.ndarray | None = None,
    raster: tuple[str, ...] = (),
    backend: str = "auto",
    device: str = "cpu",
) -> Activity:
    """Show ``images`` to ``network`` and count its spikes.

    State starts at zero for every image. With ``trace_decay`` (float32 [C]) the presynaptic traces
    x_c[t] = trace_decay_c x_c[t-1] + x[t] are kept too and correlated with the output spikes.

    Args:
        network: What to run.
        images: uint8 [B, height, width]; pixel current = byte / 256.
        schedule: Steps, dt and drive of the presentation.
        trace_decay: Decay of the presynaptic trace per compartment and step, or None.
        raster: Names of layers whose spikes are wanted step by step.
        backend: ``auto`` or a name in ``BACKENDS``.
        device: Where to run, ``cpu`` or ``cuda``.

    Raises:
        NotFinite: A weight, threshold or gate is NaN or infinite.
    """
    check(network)
    return choose(backend, device, network.dynamics.output).forward(
        network, torch.as_tensor(images), schedule, trace_decay=trace_decay, raster=raster
    )


def device(wanted: str) -> str:
    """The device of a parameter ``device``: ``auto`` is ``cuda`` where there is one, else ``cpu``.

    Raises:
        UserError: The CUDA device is not there.
    """
    count = torch.cuda.device_count() if wanted != "cpu" and torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if count else "cpu"
    if wanted != "cpu" and int(wanted.partition(":")[2] or 0) >= count:
        there = ", ".join(f"cuda:{number}" for number in range(count)) or "none"
        raise UserError(
            f"device = {wanted!r}: PyTorch {torch.__version__} finds no such device (CUDA devices "
            f"here: {there}); allowed are auto, cpu and those"
        )
    return wanted


def check(network: Network) -> None:
    """Refuse NaN and infinity in the network's values.

    Membranes then cannot become so either: currents are finite sums of weights below 2 times
    pixels below 1 or spikes, over a finite number of steps.
    """
    sums = torch.stack([value.sum() for value in network.state().values()])
    if not sums.isfinite().all():
        for name, value in network.state().items():
            if not value.isfinite().all():
                layer, field = name.split(".")
                raise NotFinite(
                    f"{layer}: NaN or infinity in its {field}; lower the learning rates (eta, "
                    "eta_filters, gradient_rate), or delete a damaged checkpoint"
                )


def choose(backend: str, device: str, output: str = "or") -> Any:
    """The backend of a name; ``auto`` takes the first of ``BACKENDS`` that is available.

    ``output``: the neuron that it has to know.
    """
    for name, module in BACKENDS.items():
        if backend not in ("auto", name):
            continue
        try:
            module = import_module(module) if isinstance(module, str) else module
        except ImportError:  # its compiler is not installed
            continue
        if module.available(device) and output in getattr(module, "OUTPUTS", (output,)):
            return module
    names = ", ".join(BACKENDS)
    what = "" if output in COMPILED else f" neurons {output!r}"
    raise UserError(
        f"backend: {backend!r} cannot run{what} on {device!r}; known here: auto, {names}"
    )
