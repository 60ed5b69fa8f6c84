"""The integer network on Lava: same arguments and result as the twin's ``forward``."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from ltgate import backends
from ltgate.loihi.lava_backend import require
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
    raster: tuple[str, ...] | None = None,
    batch: int = 8,
    differences: bool = False,
    seconds: float = 600.0,
) -> Timed:
    """Show integer ``images`` to the network in Lava's simulator.

    Args:
        net: What to run.
        images: As the twin's ``forward`` takes them.
        drive: Integers [T].
        raster: Layers whose spikes are recorded, and counted; None: all.
        batch: Images side by side; the rest follow one after the other in the same run.
        differences: Send the input's changes, and let the first layer hold it.
        seconds: Deadline.
    """
    require()
    from ltgate.loihi.lava_backend.session import Session

    names = tuple(net.names) if raster is None else raster
    shown = backends.fitting(net, images, drive, names, graded=True).numpy()
    drive, number = np.asarray(drive, int), len(shown)
    frames = backends.shown_frames(drive) if shown.ndim == 5 else np.zeros_like(drive)
    shown = np.moveaxis(shown, -3, -1)  # channels last
    shown = shown.reshape(number, -1, *shown.shape[-3:])
    batch = min(batch, number)
    samples = -(-number // batch)
    padded = np.pad(shown, [(0, samples * batch - number), *[(0, 0)] * 4])
    shown = padded.reshape(samples, batch, *shown.shape[1:]).swapaxes(1, 2)
    with tempfile.TemporaryDirectory(prefix="ltgate-lava-") as folder:
        start = time.perf_counter()
        sent = {"images": shown, "frames": frames, "drive": drive, "differences": differences}
        source = _build(net, sent, names, Path(folder))
        with Session(source, seconds) as session:
            built = time.perf_counter()
            session.run(samples * len(drive) + len(net.layers) + 1)
            ran = time.perf_counter()
            made = Timed(len(drive), peak_bytes=_memory())
        made.build_seconds, made.run_seconds = built - start, ran - built
        for name in names:  # [samples x T, batch, height, width, channels]
            spikes = np.load(Path(folder, f"{name}.npy"))
            spikes = spikes.reshape(samples, len(drive), *spikes.shape[1:]).swapaxes(0, 1)
            spikes = spikes.reshape(len(drive), -1, *spikes.shape[3:])[:, :number]
            made.rasters[name] = torch.from_numpy(spikes.transpose(0, 1, 4, 2, 3).copy())
            made.counts[name] = made.rasters[name].sum(0, dtype=torch.int32)
    return made


def _build(net, sent, recorded, folder):
    """The processes, connected; returns the source. Spikes of a layer go to ``LAYER.npy``."""
    from ltgate.loihi.lava_backend.processes import spiking

    source = spiking.FrameSource(**sent)
    port, arriving, steps = source.s_out, source.s_out.shape, len(sent["drive"])
    for number, layer in enumerate(net.layers):
        channels, height, width = layer.out_shape
        shape = (arriving[0], height, width, channels)
        charges = (*shape[:-1], net.compartments, channels)
        connection = spiking.Synapses(**synapses(layer), in_shape=arriving, out_shape=charges)
        port.connect(connection.s_in)
        path = folder / f"{layer.name}.npy"
        if layer.name in recorded:
            rows = len(sent["images"]) * steps
            np.lib.format.open_memmap(path, "w+", np.uint8, (rows, *shape)).flush()
        neurons = spiking.LTGate(
            shape=shape, decay=net.decay, exponent=layer.exponent, threshold=layer.threshold,
            gate=layer.gate, blend=net.blended, subtract=net.subtracts, limit=net.limit,
            held=sent["differences"] and number == 0, interval=steps, offset=number + 1,
            path=str(path) if layer.name in recorded else "",
        )  # fmt: skip
        connection.a_out.connect(neurons.a_in)
        port, arriving = neurons.s_out, shape
    return source


def synapses(layer: QuantLayer) -> dict[str, Any]:
    """A layer's weights [K, out, in, kernel height, kernel width], stride and padding.

    A dense layer is a convolution whose kernel covers its input.
    """
    kernel = layer.weight.shape[3:] if layer.is_conv else layer.in_shape[1:]
    weight = layer.weight.reshape(*layer.weight.shape[:2], -1, *kernel)
    return {"weight": weight, "stride": max(layer.stride, 1), "padding": layer.padding}


def _memory() -> int:
    """Bytes that this process and its children hold now; what they share counts once (Linux)."""
    own = psutil.Process()
    held = [process.memory_full_info() for process in (own, *own.children(recursive=True))]
    return sum(getattr(info, "pss", info.uss) for info in held)
