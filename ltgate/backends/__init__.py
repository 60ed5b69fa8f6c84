"""Ways to run a network over time. All give the same spikes, bit for bit.

A backend is a module, or any object, with a ``NAME``, ``available(device) -> bool`` and::

    forward(network, images, schedule, trace_decay=None, raster=()) -> Activity

which gets still images [B, channels, height, width] or streams [B, frames, channels, height, width]
of events, and only what fits the network. A pixel is a current of byte / 256 times the drive in
every step; an event is a spike, 1, in the step in which its frame starts, and the steps between are
silent. Adding a backend is one file and one entry in ``BACKENDS``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import pairwise
from math import prod
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ltgate.data.tasks import Schedule
from ltgate.declare import Group, OneOf
from ltgate.errors import NotFinite, UserError
from ltgate.network import KERNEL, Network
from ltgate.neurons import COMPILED, Dynamics

# name -> module, imported when used, or the backend itself. ``auto`` takes the first that can:
# event on CPUs, gpu on CUDA devices. A backend that cannot run every network or not every kind of
# input has a function ``takes(dynamics, streamed) -> bool``.
BACKENDS: dict[str, str | Any] = {
    "event": "ltgate.backends.event",
    "gpu": "ltgate.backends.gpu",
    "portable": "ltgate.backends.portable",
}


DEFAULT = Dynamics()


class BackendParameters(Group, compute=True):
    """Where to compute."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = "auto"
    """where to compute"""
    backend: Annotated[str, OneOf(BACKENDS, ("auto",))] = "auto"
    """simulator of the network: auto, portable, event, gpu, or another of
    ltgate.backends.BACKENDS"""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU cores: that many trials run side by side, on one thread each; 0 = all"""


@dataclass
class Activity:
    """What one forward pass over a batch of B images and T steps leaves.

    Attributes:
        steps: T.
        counts: Per layer, spikes of each neuron over all steps, int32 [B, channels, height, width].
        crossings: Per layer, how often each compartment reached the threshold by itself (also
            under ``blend``: :attr:`ltgate.neurons.Step.crossed`), summed over steps and positions,
            int64 [B, C, channels].
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
        images: uint8 [B, channels, height, width], or [B, height, width] where there is one
            channel; pixel current = byte / 256. Or a stream of events: 0 or 1,
            [B, frames, channels, height, width], as many frames as the schedule shows.
        schedule: Steps, dt and drive of the presentation.
        trace_decay: Decay of the presynaptic trace per compartment and step, or None.
        raster: Names of layers whose spikes are wanted step by step.
        backend: ``auto`` or a name in ``BACKENDS``.
        device: Where to run, ``cpu`` or ``cuda``.

    Raises:
        NotFinite: A weight, threshold or gate is NaN or infinite.
        UserError: Something else does not fit (:func:`fitting`).
    """
    check(network)
    images = fitting(network, images, schedule.drive, raster)
    schedule = replace(schedule, drive=np.ascontiguousarray(schedule.drive, np.float32))
    if not (0 < schedule.dt_ms < np.inf and 0 < schedule.charge_ms < np.inf):
        raise UserError(f"schedule: steps of {schedule.dt_ms} ms; allowed are finite ones above 0")
    if trace_decay is not None:
        trace_decay = np.asarray(trace_decay, np.float32)
        if trace_decay.shape != (network.compartments,) or not np.isfinite(trace_decay).all():
            raise UserError(
                f"trace_decay = {trace_decay.tolist()}; needed is one finite number for each of "
                f"{network.compartments} compartments"
            )
    return choose(backend, device, network.dynamics, streamed=images.ndim == 5).forward(
        network, images, schedule, trace_decay=trace_decay, raster=raster
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


def trace_response(
    trace_decay: np.ndarray | None, drive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The D trace decays that differ, and what the first layer's traces make of a unit pixel.

    Equal decays give equal updates: one of them is kept. None: D = 0, no learning.

    Returns:
        float32 [D] and [D, T], r[t] = decay r[t-1] + drive[t].
    """
    decays = np.zeros(0, np.float32) if trace_decay is None else np.asarray(trace_decay, np.float32)
    if len(decays) and (decays == decays[0]).all():
        decays = decays[:1]
    response = np.zeros((len(decays), len(drive)), np.float32)
    for t in range(len(drive) if len(decays) else 0):
        response[:, t] = drive[t] + (decays * response[:, t - 1] if t else 0)
    return decays, response


def fitting(
    network: Any,
    images: np.ndarray | Tensor,
    drive: np.ndarray,
    recorded: Iterable[str] = (),
    graded: bool = False,
) -> Tensor:
    """``images`` with all their axes, if they and the rest of a pass fit the network.

    Compiled kernels check no index: what does not fit, they would read beyond its end.

    Args:
        network: In floats, or in the chip's integers.
        images: uint8 [B, channels, height, width], or [B, height, width] for one channel; or a
            stream, 0 or 1, [B, frames, channels, height, width].
        drive: [T].
        recorded: Names of layers.
        graded: Whether images may be integers of any type and sign, as the chip's messages.

    Raises:
        UserError: One line: what it is, and what the network takes.
    """
    _joined(network)
    images = torch.as_tensor(images)
    shape = tuple(network.layers[0].in_shape)
    kind = images.dtype
    integer = not (kind.is_floating_point or kind.is_complex or kind == torch.bool)
    if shape[0] == 1 and images.ndim == 3:
        images = images.unsqueeze(1)
    streamed = images.ndim == 5
    if images.shape[1 + streamed :] != shape or not (integer if graded else kind == torch.uint8):
        axes = ["B", *(["frames"] if streamed else []), *shape]
        raise UserError(
            f"images: {str(kind).removeprefix('torch.')} {list(images.shape)}; this network takes "
            f"{'integers' if graded else 'uint8'} {axes}".replace("'", "")
        )
    drive = np.asarray(drive)
    if drive.ndim != 1 or not len(drive) or not np.isfinite(drive).all():
        raise UserError(
            f"schedule: drive of shape {list(drive.shape)}; needed are finite numbers [T], T >= 1"
        )
    if streamed:
        _playable(images, drive)
    for name in recorded:
        if name not in network.names:
            raise UserError(f"{name!r} is no layer; known here: {', '.join(network.names)}")
    return images


def _playable(stream: Tensor, drive: np.ndarray) -> None:
    """Refuse a stream that is not of events, or that the clock does not show frame by frame."""
    if not ((drive == 0) | (drive == 1)).all() or drive.sum() != stream.shape[1]:
        raise UserError(
            f"images: a stream of {stream.shape[1]} frames; the schedule shows {drive.sum():g}, up "
            f"to {drive.max():g} in a step: needed are as many frames, one in a step (presentation "
            "frame, or pulse up to 1000 Hz)"
        )
    if stream.numel() and (stream.max() > 1 or stream.min() < 0):
        raise UserError(f"images: a stream with {stream.max()}; an event is 1, no event 0")


def shown_frames(drive: np.ndarray) -> np.ndarray:
    """Which frame of a stream starts in each step, -1 in silence; int64 [T]."""
    return np.where(drive > 0, np.cumsum(drive > 0) - 1, -1)


def _joined(network: Any) -> None:
    """Refuse weights that do not fit their layer, and layers that do not fit each other."""
    for layer in network.layers:
        inputs = (layer.in_shape[0], KERNEL, KERNEL) if layer.is_conv else (prod(layer.in_shape),)
        needed = (network.compartments, layer.out_shape[0], *inputs)
        if tuple(layer.weight.shape) != needed:
            raise UserError(
                f"{layer.name}: weight has shape {tuple(layer.weight.shape)}; needed is {needed}"
            )
    for layer, after in pairwise(network.layers):
        if tuple(after.in_shape) != tuple(layer.out_shape):
            raise UserError(
                f"{after.name}: takes {after.in_shape}; {layer.name} before it gives "
                f"{layer.out_shape}"
            )


def check(network: Network) -> None:
    """Refuse NaN and infinity in the network's values.

    Membranes then cannot become so either: currents are finite sums of weights below 2 times
    pixels below 1 or spikes, over a finite number of steps.
    """
    sums = torch.stack([value.sum() for value in network.state_dict().values()])
    if not sums.isfinite().all():
        for name, value in network.state_dict().items():
            if not value.isfinite().all():
                layer, field = name.split(".")
                raise NotFinite(
                    f"{layer}: NaN or infinity in its {field}; lower the learning rates (eta, "
                    "eta_filters, gradient_rate), or delete a damaged checkpoint"
                )


def choose(backend: str, device: str, dynamics: Dynamics = DEFAULT, streamed: bool = False) -> Any:
    """The backend of a name; ``auto`` takes the first of ``BACKENDS`` that is available.

    It has to know the neurons' ``dynamics``, and streams where the input is ``streamed``.
    """
    for name, module in BACKENDS.items():
        if backend not in ("auto", name):
            continue
        try:
            module = import_module(module) if isinstance(module, str) else module
        except ImportError:  # its compiler is not installed
            continue
        takes = getattr(module, "takes", lambda *_: True)
        if module.available(device) and takes(dynamics, streamed):
            return module
    names = ", ".join(BACKENDS)
    what = "" if dynamics.output in COMPILED else f" neurons {dynamics.output!r}"
    raise UserError(
        f"backend: {backend!r} cannot run{what} on {device!r}; known here: auto, {names}"
    )
