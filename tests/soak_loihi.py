"""Lava against the twin and plain NumPy over many random configurations.

    python tests/soak_loihi.py --configurations 200

Each has its own network (strides, padding, exponents, gates, outputs, resets, saturation), signed
or unsigned graded input, and three samples with resets between them. Stops at the first difference.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import loihi_reference as reference

from ltgate.loihi import twin
from ltgate.loihi.lava_backend import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configurations", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    spikes = saturated = 0
    start = time.monotonic()
    for seed in range(chosen.first, chosen.first + chosen.configurations):
        random = np.random.default_rng(seed)
        net = reference.draw(random)
        images = reference.images(random, net, 3)
        drive = reference.drive(random, 12)
        held = bool(random.integers(2))
        names = tuple(net.names)
        expected = reference.forward(net, images, drive)
        ours = twin.forward(net, images, drive, raster=names)
        theirs = run.forward(
            net, images, drive, raster=names, batch=2, differences=held, seconds=120
        )
        for name in names:
            assert (ours.rasters[name].numpy() == expected[name]).all(), (seed, name, "twin")
            assert (theirs.rasters[name].numpy() == expected[name]).all(), (seed, name, "Lava")
            spikes += int(expected[name].sum())
        saturated += bool(ours.saturated(net))
        done = seed + 1 - chosen.first
        if done % 20 == 0:
            print(f"{done} equal after {time.monotonic() - start:.0f} s", flush=True)
    print(f"{chosen.configurations} configurations, {spikes} spikes, {saturated} with saturated "
          "membranes: Lava, twin and NumPy agree everywhere")  # fmt: skip


if __name__ == "__main__":
    main()
