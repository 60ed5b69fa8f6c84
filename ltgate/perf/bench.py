"""What is measured: the published network at 5 % activity, on one batch of each task.

16-32-64 channels, 256 dense neurons, raw current, batches of 32. Each layer's threshold is set so
that its neurons spike in 5 % of the steps, for each task separately: the time of a batch depends on
its spikes, and the guide does not say how many its network had.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from ltgate import backends, processes, surrogate
from ltgate.backends import Activity
from ltgate.data import sources
from ltgate.data.store import TaskImages, open_task
from ltgate.data.tasks import FAST, SLOW, Schedule, schedule
from ltgate.network import Network, create
from ltgate.neurons import Dynamics
from ltgate.params import Params
from ltgate.perf import measure
from ltgate.plasticity import homeostasis

BATCH = 32
RATE = 0.05
TASKS = {"fast": FAST, "slow": SLOW}

# Batches of 32 in an epoch of MNIST's training split (24,477 and 23,523 images).
EPOCH_BATCHES = {"fast": 765, "slow": 736}
VALIDATION_IMAGES = 6119  # of the fast task


@dataclass(frozen=True)
class Workload:
    """A calibrated network and a batch of one task.

    Attributes:
        network: At 5 % activity on the batch's first images.
        images: As :func:`ltgate.backends.forward` takes them.
        steps: The task's clock.
        backend, device: As :func:`ltgate.backends.forward` takes them.
    """

    network: Network
    images: np.ndarray
    steps: Schedule
    backend: str = "auto"
    device: str = "cpu"

    def forward(self, trace_decay: np.ndarray | None = None) -> Activity:
        """One forward pass."""
        return backends.forward(
            self.network, self.images, self.steps, trace_decay,
            backend=self.backend, device=self.device,
        )  # fmt: skip

    def update(self) -> Activity:
        """One forward pass with traces and the local update of every layer."""
        return self.forward(np.full(self.network.dynamics.compartments, 0.8, np.float32))

    def gradients(self, engine: str = "auto") -> surrogate.Gradients:
        """Forward and backward through time: what one step of a surrogate-gradient method takes."""
        last = self.network.layers[-1]
        head = surrogate.LinearHead.drawn({last.name: last.neurons}, 10, np.random.default_rng(0))
        head.to(self.device)
        labels = np.arange(len(self.images)) % 10
        return surrogate.loss_and_gradients(
            self.network, self.images, labels, self.steps, head, engine=engine
        )

    def cut(self, images: int = 0, steps: int = 0) -> "Workload":
        """The first images (repeated when there are too few) and steps; 0 = all."""
        chosen = np.arange(images or len(self.images)) % len(self.images)
        clock = replace(self.steps, drive=self.steps.drive[: steps or None])
        return replace(self, images=self.images[chosen], steps=clock)

    def gpu(self, **options: object) -> Activity:
        """One forward pass of the GPU backend with its own options."""
        from ltgate.backends import gpu

        return gpu.forward(self.network, torch.from_numpy(self.images), self.steps, **options)

    def spikes(self) -> int:
        """Spikes of all layers in one batch."""
        return sum(int(counts.sum()) for counts in self.forward().counts.values())


class Extent(NamedTuple):
    """How much is measured.

    Attributes:
        everything: Whether what takes minutes is measured: sweeps, surrogate gradients, and all
            backends, peers and settings of peers, not the usual best alone.
        repeats: Rounds of every time.
        batches: Training batches per task; 0 = the whole epoch.
        validation: Validation images; 0 = all.
        load: Batches read in each measurement of loading.
        workers, images, steps, depth, training: Points of the sweeps.
    """

    everything: bool
    repeats: int
    batches: int
    validation: int
    load: int
    workers: Sequence[int]
    images: Sequence[int] = ()
    steps: Sequence[int] = ()
    depth: Sequence[int] = ()
    training: Sequence[int] = ()


EXTENTS = {
    "few": Extent(False, 2, 2, 64, 20, (1, 2)),
    "full": Extent(
        True, 3, 0, 0, 765, (1, 2, 4), (4, 8, 16, 32, 64, 128), (25, 50, 100, 200, 400),
        (1, 2, 3, 4, 5), (256, 512, 1024, 2048, 4096),
    ),
}  # fmt: skip


class Bench:
    """Everything that the measuring functions share; made when first asked for.

    ``params`` give the image source, device, backend, threads and (``bench``) how much is measured.
    """

    def __init__(self, params: Params) -> None:
        self.params, self.extent = params, EXTENTS[params.bench]
        processes.start_server("ltgate.perf")

    @property
    def device(self) -> str:
        """``cpu``, or ``cuda`` where there is one and the parameters allow it."""
        return backends.device(self.params.device)

    @property
    def threads(self) -> int:
        """CPU threads that "all" means."""
        return self.params.threads or torch.get_num_threads()

    @property
    def where(self) -> str:
        """Which memory :meth:`peaks` means."""
        return "RAM of a CPU process (no GPU)" if self.device == "cpu" else "GPU memory"

    def times[Key: Hashable](self, works: dict[Key, measure.Work]) -> dict[Key, float]:
        """:func:`.measure.interleaved` on this device, on all threads."""
        with processes.on_threads(self.threads):
            return measure.interleaved(works, self.extent.repeats, self.device)

    def peaks(self, warm: measure.Work, works: Sequence[measure.Work]) -> list[int]:
        """:func:`.measure.peaks` on this device, on all threads."""
        return measure.peaks(warm, works, self.device, self.threads)

    @cached_property
    def published(self) -> Params:
        """The published network and learning, on this source and machine."""
        p = self.params
        return Params(
            **{name: getattr(p, name) for name in ("source", "data_folder", "device", "backend")},
            channels=[16, 32, 64], strides=[1, 2, 2], hidden=[256], readout_layers=["dense"],
            tasks=list(TASKS.values()), presentation="frame", batch_size=BATCH,
            keep_features=False,
            # So small that the activity stays at 5 %; the work is the same.
            eta=1e-5,
        )  # fmt: skip

    def images(self, task: str, split: str = "train") -> TaskImages:
        """A split of the fast or slow task."""
        return open_task(self.published, TASKS[task], split, seed=0)

    @cached_property
    def workloads(self) -> dict[str, Workload]:
        """``fast`` and ``slow``, on the device; nothing else runs any more when they are there."""
        made = {task: self.workload(task, self.device) for task in TASKS}
        measure.fresh(int)  # the server has got ready meanwhile
        return made

    def workload(self, task: str, device: str) -> Workload:
        """The published network calibrated for a task."""
        p = self.published
        network = create(
            Dynamics(), p.channels, p.strides, p.hidden, np.random.default_rng(0),
            sources.of(p).image_shape,
        )  # fmt: skip
        images = self.images(task).images
        batch = images[np.arange(BATCH) % len(images)]
        made = Workload(network, batch, schedule(TASKS[task], "frame"), self.params.backend)
        return to_device(calibrated(made), device)


def calibrated(workload: Workload, images: int = 8) -> Workload:
    """Set the thresholds, one a layer, to 5 % on the first images; returns the workload."""
    few = workload.cut(images)
    wanted = homeostasis.HomeostasisParameters(
        target_rate=RATE, threshold_scope="layer", threshold_lowest=2.0**-8,
        calibration_iterations=12, calibration_tolerance=0.03,
    )  # fmt: skip

    def show(network: Network) -> Activity:
        return replace(few, network=network).forward()

    for layer in workload.network.layers:
        homeostasis.calibrate(workload.network, layer, show, wanted)
    return workload


def to_device(workload: Workload, device: str) -> Workload:
    """The workload with a copy of its network there."""
    network = workload.network.clone()
    network.to(device)
    backend = workload.backend if device == "cpu" or workload.backend != "event" else "auto"
    return replace(workload, network=network, device=device, backend=backend)
