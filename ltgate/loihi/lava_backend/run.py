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
from ltgate.loihi.twin import Run


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
        tag: ``fixed_pt`` or ``floating_pt``.
        seconds: Deadline.
        timed: Filled with what it took.
    """
    require()
    from ltgate.loihi.lava_backend.session import Session

    names = net.names if counted is None else list(counted)
    shown = backends.fitting(net, images, drive, {*raster, *names}, graded=True)
    images = shown.permute(0, 2, 3, 1).numpy()  # channels last
    batch = min(batch, len(images))
    samples = -(-len(images) // batch)
    padded = np.pad(images, [(0, samples * batch - len(images)), (0, 0), (0, 0), (0, 0)])
    arithmetic.warm()
    with tempfile.TemporaryDirectory(prefix="ltgate-lava-") as folder:
        files = {}
        start = time.perf_counter()
        shown = padded.reshape(samples, batch, *images.shape[1:])
        sinks = names, raster, Path(folder), files
        source = _build(net, shown, np.asarray(drive, int), differences, *sinks)
        with Session(source, seconds, tag) as session:
            built = time.perf_counter()
            session.run(samples * len(drive) + len(net.layers) + 1)
            ran = time.perf_counter()
            if timed is not None:
                timed.build_seconds, timed.run_seconds = built - start, ran - built
                timed.peak_bytes = _memory()
        return _collected(files, len(drive), len(images))


def _collected(files, steps: int, number: int) -> Run:
    """What the sinks wrote, channels first, of the first ``number`` images."""
    made = Run(steps)
    for (name, kind), path in files.items():
        found = np.load(path)
        if kind == "counts":
            whole = found.reshape(-1, *found.shape[2:])[:number]
            made.counts[name] = torch.from_numpy(whole.transpose(0, 3, 1, 2).copy())
        else:
            by_step = found.reshape(-1, steps, *found.shape[1:]).swapaxes(0, 1)
            whole = by_step.reshape(steps, -1, *by_step.shape[3:])[:, :number]
            made.rasters[name] = torch.from_numpy(whole.transpose(0, 1, 4, 2, 3).copy())
    return made


def _build(net, images, drive, differences, names, raster, folder, files):
    from ltgate.loihi.lava_backend.processes.spiking import (
        CountSink,
        EventConv,
        FrameSource,
        LTGate,
    )

    samples, batch = images.shape[:2]
    source = FrameSource(images=images, drive=drive, differences=differences)
    port, arriving = source.s_out, images.shape[1:]
    for number, layer in enumerate(net.layers):
        channels, height, width = layer.out_shape
        shape = (batch, height, width, channels)
        connection = EventConv(
            weight=kernel(layer).astype(np.int32), stride=max(layer.stride, 1),
            padding=layer.padding, in_shape=arriving,
            out_shape=(*shape[:-1], net.compartments * channels),
        )  # fmt: skip
        port.connect(connection.s_in)
        neurons = LTGate(
            shape=shape, decay=net.decay, exponent=layer.exponent, threshold=layer.threshold,
            gate=layer.gate, blend=net.blended, subtract=net.subtracts, limit=net.limit,
            held=differences and number == 0, interval=len(drive), offset=number + 1,
        )  # fmt: skip
        connection.a_out.connect(neurons.a_in)
        port, arriving = neurons.s_out, shape
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
