"""The twin for CPUs: compiled, event-driven, one image at a time on every thread.

The layout of spikes and weights is that of :mod:`ltgate.backends.event`.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ltgate.backends import event
from ltgate.backends.kernels import UNIT, Record
from ltgate.data.tasks import Schedule
from ltgate.fixed_point import DECAY_ONE
from ltgate.loihi.quantnet import QuantNetwork
from ltgate.loihi.twin.base import Run
from ltgate.loihi.twin.kernels import Chip, run
from ltgate.network import GRID, Layer, Network
from ltgate.neurons import Dynamics


def forward(net: QuantNetwork, images: Tensor, drive: np.ndarray, raster: tuple[str, ...]) -> Run:
    """See :func:`ltgate.loihi.twin.forward`. Uses ``torch.get_num_threads()`` threads."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        each = map if threads == 1 else pool.map
        running = _Pass(net, images, drive, raster, threads, each)
        running.run()
        return running.result()


class _Pass(event._Pass):
    """The event backend's pass with the chip's neuron in place of the float one."""

    def __init__(self, net, images, drive, raster, threads, each) -> None:
        clock = Schedule("pulse", 1.0, 1.0, drive.astype(np.float32))
        super().__init__(_carrier(net), images, clock, None, raster, threads, each)
        self.net = net
        for number, layer in enumerate(net.layers):
            self.layers["padding"][number] = layer.padding
        self.spare = [
            spare._replace(
                membrane=event._aligned(len(spare.membrane), np.float64),
                constant=event._aligned(len(spare.constant), np.float64),
            )
            for spare in self.spare
        ]
        self.chip = self._chip(drive)
        lanes = len(net.layers) * net.compartments * UNIT
        self.peaks = np.zeros((self.batch, lanes))

    def _chip(self, drive: np.ndarray) -> Chip:
        net, theta, gate = self.net, [], []
        for entry, layer in zip(self.layers, net.layers, strict=True):
            channels, padded = layer.out_shape[0], entry["blocks"] * UNIT
            spread = np.full((net.compartments, padded), np.inf)
            spread[:, :channels] = layer.threshold
            theta.append(spread.reshape(net.compartments, -1, UNIT).swapaxes(0, 1).ravel())
            gate.append(np.pad(layer.gate.astype(np.float64), (0, padded - channels)))
        return Chip(
            layers=self.layers,
            weights=self.model.weights,
            theta=np.concatenate(theta),
            gate=np.concatenate(gate),
            keep=(DECAY_ONE - net.decay).astype(np.float64),
            scale=np.concatenate([2.0**layer.exponent for layer in net.layers]),
            drive=drive.astype(np.float64),
            limit=np.array([net.limit], np.float64),
            blend=net.blended,
            subtract=net.subtracts,
        )

    def show(self, index: int) -> dict:
        """Run one image."""
        scratch = self.spare.pop()
        scratch.awake[:] = 0
        record = Record(self.counts, self.crossings[index], self.rasters, self.immediate)
        for begin in range(0, self.steps, self.plan.steps):
            steps = min(self.plan.steps, self.steps - begin)
            run(
                self.chip, scratch, record, self.peaks[index], self.pixels[index], index,
                self.batch, begin, steps,
            )  # fmt: skip
        self.spare.append(scratch)
        return {}

    def result(self) -> Run:
        """Counts, crossings, rasters, peaks."""
        activity = self.activity()
        shape = (self.batch, len(self.net.layers), self.net.compartments, UNIT)
        peaks = self.peaks.reshape(shape).max((0, 3)) if self.batch else np.zeros(shape[1:3])
        return Run(
            self.steps, activity.counts, activity.crossings, activity.rasters,
            dict(zip(self.net.names, peaks, strict=True)),
        )  # fmt: skip


def _carrier(net: QuantNetwork) -> Network:
    """The integers as a float network, q on the grid: only its layout and weights are used."""
    layers = [
        Layer(
            x.name, x.stride, x.in_shape, x.out_shape,
            torch.from_numpy(x.weight.astype(np.float32)) * GRID,
            torch.ones(net.compartments, x.out_shape[0]), torch.zeros(x.out_shape[0]),
        )
        for x in net.layers
    ]  # fmt: skip
    return Network(Dynamics((5.0, 100.0)[: net.compartments]), layers)
