"""Compiled code loaded and run once, in the server that fresh processes are forked from.

Importing this module does it, so that a fresh process need not: see :mod:`ltgate.perf.fresh`.
"""

import gc
import time

import numpy as np
import torch

from ltgate import backends
from ltgate.data.tasks import schedule
from ltgate.network import create
from ltgate.neurons import Dynamics
from ltgate.params import SLOW


def _seconds() -> float:
    start = time.perf_counter()
    backends.forward(_NETWORK, _IMAGES, schedule(SLOW, "frame"), np.full(2, 0.8, np.float32))
    return time.perf_counter() - start


torch.set_num_threads(1)  # threads do not survive a fork
_NETWORK = create(Dynamics(), [16, 32, 64], [1, 2, 2], [256], np.random.default_rng(0))
_IMAGES = np.full((1, 28, 28), 128, np.uint8)
FIRST, LATER = _seconds(), _seconds()
gc.collect()
gc.freeze()  # looking through what is here would copy its pages into every process
