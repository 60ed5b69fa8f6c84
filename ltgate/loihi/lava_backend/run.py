"""The integer network on Lava: same arguments and result as the twin's ``forward``."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from ltgate import backends
from ltgate.errors import UserError
from ltgate.loihi.lava_backend import arithmetic, require
from ltgate.loihi.quantnet import QuantLayer, QuantNetwork
from ltgate.loihi.twin.base import Run


@dataclass
class Timed:
    """What a run of Lava took.

    Attributes:
        build_seconds: Making the processes, compiling them and starting their models.
        run_seconds: All steps.
        peak_bytes: Memory of all processes together, shared pages counted once, when the run ends.
    """

    build_seconds: float = 0.0
    run_seconds: float = 0.0
    peak_bytes: int = 0


def forward(
    net: QuantNetwork,
    images: np.ndarray,
    drive: np.ndarray,
    raster: tuple[str, ...] = (),
    counted: tuple[str, ...] | None = None,
    batch: int = 8,
    differences: bool = False,
    stock: bool = False,
    tag: str = "fixed_pt",
    seconds: float = 600.0,
    timed: Timed | None = None,
) -> Run:
    """Show integer ``images`` to the network in Lava's simulator.

    Args:
        net: What to run.
        images: As the twin's ``forward`` takes them.
        drive: Integers [T].
        raster: Layers whose spikes are wanted step by step.
        counted: Layers whose spikes are counted; None: all.
        batch: Images side by side; the rest follow one after the other in the same run.
        differences: Send the input's changes, and let the first layer hold it.
        stock: Lava's own Conv (and batch 1) in place of the event-driven one: a slow oracle.
        tag: ``fixed_pt`` or ``floating_pt``.
        seconds: Deadline.
        timed: Filled with what it took.
    """
    require()
    from ltgate.loihi.lava_backend.session import Session

    names = net.names if counted is None else list(counted)
    shown = backends.fitting(net, images, drive, {*raster, *names}, graded=True)
    images = shown.permute(0, 2, 3, 1).numpy()  # channels last
    batch = 1 if stock else min(batch, len(images))
    samples = -(-len(images) // batch)
    padded = np.zeros((samples * batch, *images.shape[1:]), images.dtype)
    padded[: len(images)] = images
    arithmetic.warm()
    with tempfile.TemporaryDirectory(prefix="ltgate-lava-") as folder:
        files = {}
        start = time.perf_counter()
        source = _build(
            net, padded.reshape(samples, batch, *images.shape[1:]), np.asarray(drive, int),
            names, raster, differences, stock, Path(folder), files,
        )  # fmt: skip
        with Session(source, seconds, tag) as session:
            built = time.perf_counter()
            session.run(samples * len(drive) + len(net.layers) + 1)
            ran = time.perf_counter()
            if timed is not None:
                timed.build_seconds, timed.run_seconds = built - start, ran - built
                timed.peak_bytes = _memory()
        made = Run(len(drive))
        for (name, kind), path in files.items():
            found = np.load(path)
            if kind == "counts":
                whole = found.reshape(-1, *found.shape[2:])[: len(images)]
                made.counts[name] = torch.from_numpy(whole.transpose(0, 3, 1, 2).copy())
            else:
                steps = found.reshape(samples, len(drive), *found.shape[1:]).swapaxes(0, 1)
                whole = steps.reshape(len(drive), -1, *steps.shape[3:])[:, : len(images)]
                made.rasters[name] = torch.from_numpy(whole.transpose(0, 1, 4, 2, 3).copy())
    return made


def _build(net, images, drive, names, raster, differences, stock, folder, files):
    from ltgate.loihi.lava_backend.processes.frames import FrameSource
    from ltgate.loihi.lava_backend.processes.neuron import LTGate
    from ltgate.loihi.lava_backend.processes.sink import CountSink

    samples, batch = images.shape[:2]
    leading = () if stock else (batch,)
    shown = images[:, 0] if stock else images
    source = FrameSource(images=shown, drive=drive, differences=differences)
    port = source.s_out
    for number, layer in enumerate(net.layers):
        channels, height, width = layer.out_shape
        joined = net.compartments * channels
        connection = _connection(net, layer, number, batch, stock)
        if not layer.is_conv and stock:
            port = port.flatten()
        port.connect(connection.s_in)
        shape = (*leading, height, width, channels)
        neurons = LTGate(
            shape=shape, decay=net.decay, exponent=layer.exponent, threshold=layer.threshold,
            gate=layer.gate, blend=net.blended, subtract=net.subtracts, limit=net.limit,
            held=differences and number == 0, interval=len(drive), offset=number + 1,
        )  # fmt: skip
        out = connection.a_out
        if out.shape != (*leading, height, width, joined):
            out = out.reshape((*leading, height, width, joined))
        out.connect(neurons.a_in)
        port = neurons.s_out
        for kind in ("counts",) * (layer.name in names) + ("raster",) * (layer.name in raster):
            path = folder / f"{layer.name}-{kind}.npy"
            files[layer.name, kind] = path
            every = len(drive) if kind == "counts" else 1
            rows = samples if kind == "counts" else samples * len(drive)
            dtype = np.int32 if kind == "counts" else np.uint8
            made = np.lib.format.open_memmap(
                path, "w+", dtype, (rows, batch, height, width, channels)
            )
            made.flush()
            sink = CountSink(path=str(path), shape=shape, interval=every, offset=number + 1)
            port.connect(sink.s_in)
    if not files:
        raise UserError("counted=(), raster=(): at least one layer must be recorded")
    return source


def kernel(layer: QuantLayer) -> np.ndarray:
    """Weights as [kernel height, kernel width, in, K x out], compartment by compartment."""
    compartments, out = layer.weight.shape[:2]
    if layer.is_conv:
        weight = layer.weight
    else:
        weight = layer.weight.reshape(compartments, out, *layer.in_shape)
    return weight.transpose(3, 4, 2, 0, 1).reshape(*weight.shape[3:], weight.shape[2], -1)


def _connection(net, layer, number, batch, stock):
    channels, height, width = layer.in_shape
    out = (layer.out_shape[1], layer.out_shape[2], net.compartments * layer.out_shape[0])
    weight = kernel(layer).astype(np.int32)
    if stock:
        return _stock(layer, weight, number, (height, width, channels))
    from ltgate.loihi.lava_backend.processes.convolution import EventConv

    return EventConv(
        weight=weight, stride=max(layer.stride, 1), padding=layer.padding,
        in_shape=(batch, height, width, channels), out_shape=(batch, *out),
    )  # fmt: skip


def _stock(layer, weight, number, in_shape):
    """Lava's own Conv or Dense. Conv is a true convolution: its kernel is turned around."""
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.utils.weightutils import SignMode

    graded = {"num_message_bits": 24 if number == 0 else 0}
    if layer.is_conv:
        flipped = weight[::-1, ::-1].transpose(3, 0, 1, 2)
        return Conv(
            weight=np.ascontiguousarray(flipped), input_shape=in_shape, stride=layer.stride,
            padding=layer.padding, **graded,
        )  # fmt: skip
    # With mixed signs the last bit of a weight is dropped: twice the weight, half the scale.
    flat = weight.reshape(-1, weight.shape[-1]).T
    return Dense(weights=2 * flat, weight_exp=-1, sign_mode=SignMode.MIXED, **graded)


def _memory() -> int:
    """Bytes that this process and its children hold now; what they share counts once (Linux)."""
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        try:
            held = process.memory_full_info()
            total += getattr(held, "pss", held.uss)
        except psutil.Error:
            continue
    return total
