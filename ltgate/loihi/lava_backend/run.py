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
class Timed(Run):
    """A run, and what Lava took for it.

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
    seconds: float = 600.0,
) -> Timed:
    """Show integer ``images`` to the network in Lava's simulator.

    Args:
        net: What to run.
        images: As the twin's ``forward`` takes them.
        drive: Integers [T].
        raster: Layers whose spikes are wanted step by step.
        counted: Layers whose spikes are counted; None: all.
        batch: Images side by side; the rest follow one after the other in the same run.
        differences: Send the input's changes, and let the first layer hold it.
        seconds: Deadline.
    """
    require()
    from ltgate.loihi.lava_backend.session import Session

    counted = tuple(net.names) if counted is None else counted
    if not (counted or raster):
        raise UserError("counted=(), raster=(): at least one layer must be recorded")
    shown = backends.fitting(net, images, drive, {*raster, *counted}, graded=True)
    images = np.moveaxis(shown.numpy(), -3, -1)  # channels last
    batch = min(batch, len(images))
    samples = -(-len(images) // batch)
    padded = np.pad(images, [(0, samples * batch - len(images)), *[(0, 0)] * (images.ndim - 1)])
    shown = padded.reshape(samples, batch, *images.shape[1:])
    if streamed := images.ndim == 5:
        shown = shown.swapaxes(1, 2)  # [samples, frames, batch, height, width, channels]
    arithmetic.warm()
    with tempfile.TemporaryDirectory(prefix="ltgate-lava-") as folder:
        start = time.perf_counter()
        recorded = {"counts": counted, "rasters": raster}
        drive = np.asarray(drive, int)
        sent = {"images": shown, "drive": drive, "differences": differences}
        sent["frames"] = backends.shown_frames(drive) if streamed else None
        source = _build(net, sent, recorded, Path(folder))
        with Session(source, seconds) as session:
            built = time.perf_counter()
            session.run(samples * len(drive) + len(net.layers) + 1)
            ran = time.perf_counter()
            made = Timed(len(drive), peak_bytes=_memory())
        made.build_seconds, made.run_seconds = built - start, ran - built
        for kind, names in recorded.items():
            for name in names:
                spikes = _read(Path(folder, f"{name}-{kind}.npy"), samples, len(images))
                getattr(made, kind)[name] = spikes[0] if kind == "counts" else spikes
    return made


def _read(path: Path, samples: int, number: int) -> torch.Tensor:
    """What a sink wrote, channels first: [times a sample, ``number``, channels, height, width]."""
    found = np.load(path)
    by_time = found.reshape(samples, -1, *found.shape[1:]).swapaxes(0, 1)
    side_by_side = by_time.reshape(by_time.shape[0], -1, *found.shape[2:])[:, :number]
    return torch.from_numpy(side_by_side.transpose(0, 1, 4, 2, 3).copy())


def _build(net, sent, recorded, folder):
    """The processes, connected; returns the source. A sink's file is ``LAYER-KIND.npy``."""
    from ltgate.loihi.lava_backend.processes import spiking

    source = spiking.FrameSource(**sent)
    port, arriving = source.s_out, source.s_out.shape
    samples, batch, drive = len(sent["images"]), arriving[0], sent["drive"]
    for number, layer in enumerate(net.layers):
        channels, height, width = layer.out_shape
        shape = (batch, height, width, channels)
        connection = spiking.EventConv(
            weight=kernel(layer), stride=max(layer.stride, 1), padding=layer.padding,
            in_shape=arriving, out_shape=(*shape[:-1], net.compartments * channels),
        )  # fmt: skip
        port.connect(connection.s_in)
        neurons = spiking.LTGate(
            shape=shape, decay=net.decay, exponent=layer.exponent, threshold=layer.threshold,
            gate=layer.gate, blend=net.blended, subtract=net.subtracts, limit=net.limit,
            held=sent["differences"] and number == 0, interval=len(drive), offset=number + 1,
        )  # fmt: skip
        connection.a_out.connect(neurons.a_in)
        port, arriving = neurons.s_out, shape
        for kind, interval, dtype in (("counts", len(drive), np.int32), ("rasters", 1, np.uint8)):
            if layer.name in recorded[kind]:
                path, rows = folder / f"{layer.name}-{kind}.npy", samples * len(drive) // interval
                np.lib.format.open_memmap(path, "w+", dtype, (rows, *shape)).flush()
                sink = spiking.CountSink(
                    path=str(path), shape=shape, interval=interval, offset=number + 1
                )
                port.connect(sink.s_in)
    return source


def kernel(layer: QuantLayer) -> np.ndarray:
    """Weights as [kernel height, kernel width, in, K x out], compartment by compartment."""
    compartments, out = layer.weight.shape[:2]
    weight = layer.weight
    if not layer.is_conv:
        weight = weight.reshape(compartments, out, *layer.in_shape)
    weight = weight.transpose(3, 4, 2, 0, 1).reshape(*weight.shape[3:], weight.shape[2], -1)
    return weight.astype(np.int32)


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
