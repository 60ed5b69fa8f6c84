"""Compile the kernels that notebooks and tests need; called by make, again when they change.

Numba keeps the code beside its source, in ``__pycache__``, by the source's time and the processor;
what is missing there is compiled by the first process that needs it, and in every process that
needs it at the same moment: half a minute each. Here every kind of pass runs once, very small.
"""

import numpy as np
import torch

from ltgate import backends, surrogate
from ltgate.data.tasks import FAST, schedule
from ltgate.loihi import quantise
from ltgate.loihi.quantise import Samples
from ltgate.network import create
from ltgate.neurons import Dynamics

torch.set_num_threads(1)
random = np.random.default_rng(0)
clock = schedule(FAST, "pulse")
decays = np.full(2, 0.8, np.float32)


def network(follows: str = "nothing"):
    output = "or" if follows == "nothing" else "blend"
    dynamics = Dynamics(output=output, follows=follows)
    return create(dynamics, [4], [2], [4], random, (1, 8, 8), threshold=0.1)


images = random.integers(0, 256, (2, 1, 8, 8)).astype(np.uint8)
events = (random.random((2, len(clock), 1, 8, 8)) < 0.1).astype(np.uint8)
still = network()
backends.forward(still, images, clock, decays)
for follows in ("nothing", "neuron", "layer"):
    backends.forward(network(follows), events, clock, decays)
quantise.quantise(still, [Samples(images, clock)])
head = surrogate.LinearHead.drawn({still.names[-1]: 4}, 2, random)
surrogate.loss_and_gradients(still, images, np.array([0, 1]), clock, head, engine="compiled")
