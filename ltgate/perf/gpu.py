"""Utilisation and memory of the GPU, where there is one, from NVIDIA's library nvidia-ml-py."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Load:
    """Samples taken while some work ran; empty where there is no GPU.

    Attributes:
        utilisation: Share of the time in which a kernel ran, 0-1.
        memory: Memory in use on the device, bytes (all processes).
        reason: Why there is no sample.
    """

    utilisation: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    reason: str = ""

    def __str__(self) -> str:
        if not self.utilisation:
            return self.reason or "no sample"
        mean = sum(self.utilisation) / len(self.utilisation)
        return f"{mean:.0%} busy, {max(self.memory) / 1e9:.2f} GB"


@contextmanager
def watch(interval: float = 0.02) -> Iterator[Load]:
    """Sample the first GPU every ``interval`` seconds during the block."""
    load = Load()
    if not torch.cuda.is_available():
        load.reason = "no GPU"
        yield load
        return
    try:
        import pynvml
    except ImportError:
        load.reason = "nvidia-ml-py is not installed"
        yield load
        return
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    stop = threading.Event()

    def sample() -> None:
        while True:
            load.utilisation.append(pynvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)
            load.memory.append(pynvml.nvmlDeviceGetMemoryInfo(device).used)
            if stop.wait(interval):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join()
        pynvml.nvmlShutdown()
