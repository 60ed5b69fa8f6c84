"""Work that is killed at any moment: each stage goes on from what it finds under ``home``.

Run in processes forked from a server that has loaded everything (:mod:`ltgate.perf.measure`), so
that a kill costs milliseconds. A stage says how to check a file under a final name.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS)]

import small_grid  # noqa: E402

from ltgate import checkpoint, train  # noqa: E402
from ltgate.data import idx, open_task, sources  # noqa: E402
from ltgate.data.tasks import FAST, SLOW  # noqa: E402
from ltgate.params import Params  # noqa: E402

IMAGES = 20_000  # of the files that HDF5 files are built from
SAVED = 40  # checkpoints written one after the other
FORGED = "forged.txt"  # the hashes of the files that stand in for MNIST


def work(stage: str, home: str) -> None:
    """One stage, as a process of its own."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    for name in ("LTGATE_DATA", "LTGATE_DATA_CACHE"):
        os.environ.pop(name, None)
    os.environ |= {"LTGATE_HOME": home, "LTGATE_PROGRESS": "off"}
    os.environ["PYTHONPATH"] = str(TESTS.parent)
    torch.set_num_threads(1)
    name, _, option = stage.partition(":")
    STAGES[name](Path(home), option)


def prepare(stage: str, home: Path) -> None:
    """What has to be there before a stage."""
    if stage == "HDF5 build":
        images(home / "images", IMAGES)
    if stage.startswith("notebook"):
        small = {
            "name": "soak", "methods": ["lt_gate"], "channels": [4, 8, 8], "hidden": [16],
            "train_images": 60, "validation_images": 20, "test_images": 20, "hebbian_images": 20,
            "threads": 1, "checkpoint_every": 1, "control": False,
        }  # fmt: skip
        (home / "soak.yaml").write_text(yaml.safe_dump(small))
    if stage in ("grid", "figures"):
        small_grid.small_grid(home, "soak", params={"epochs": 2}, retries=40)
    if stage == "figures":  # of one grid: its table holds seconds
        finished = home.parent / "finished"
        if not finished.exists():
            work("grid", str(home))
            shutil.move(home / "runs", finished)
            shutil.rmtree(home / "data")
        shutil.copytree(finished, home / "runs", dirs_exist_ok=True)


def prepare_apart(stage: str, home: Path) -> None:
    """:func:`prepare` in a process of its own, whose output and environment are left alone."""
    program = (
        "from pathlib import Path; from soak import stages; "
        f"stages.prepare({stage!r}, Path({str(home)!r}))"
    )
    environment = {**os.environ, "LTGATE_HOME": str(home), "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def images(folder: Path, number: int) -> None:
    """IDX files, compressed, of random images."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for pool, count in (("train", number), ("test", 100)):
        picture, label = sources.FILES[pool]
        idx.write(folder / f"{picture}.gz", random.integers(0, 64, (count, 28, 28), np.uint8))
        idx.write(folder / f"{label}.gz", (np.arange(count) % 10).astype(np.uint8))


def _download(home: Path, mirror: str) -> None:
    """All four files of what stands in for MNIST, from a slow server."""
    sources.MNIST_MIRRORS = (mirror,)
    hashes = (home.parent / FORGED).read_text().split()
    sources.MNIST_SHA256 = dict(zip(hashes[::2], hashes[1::2], strict=True))
    for pool in ("train", "test"):
        sources.Mnist().read(pool)


def _build(home: Path, _: str) -> None:
    params = Params(source=f"idx:{home / 'images'}")
    _open(params)


def _digits(_: Path, __: str) -> None:
    _open(Params())


def _open(params: Params) -> None:
    for task in (FAST, SLOW):
        open_task(params, task, "train", 0)


def _train(_: Path, method: str) -> None:
    tasks = [
        {"name": "fast", "classes": [0, 1, 2], "frame_rate_hz": 500.0, "duration_ms": 60.0},
        {"name": "slow", "classes": [3, 4, 5], "frame_rate_hz": 50.0, "duration_ms": 200.0},
    ]
    small = {
        "tasks": tasks, "channels": [4, 8, 8], "hidden": [16], "train_images": 200,
        "validation_images": 40, "test_images": 40, "hebbian_images": 40, "batch_size": 8,
        "threads": 1, "control": False, "device": "cpu",
    }  # fmt: skip
    train.run(Params(name="soak", methods=[method], checkpoint_every=2, **small))


def _save(home: Path, _: str) -> None:
    for number in range(SAVED):
        tensors = {"a": torch.full((500, 1000), float(number)), "b": torch.arange(1000)}
        checkpoint.save(home / "last.safetensors", tensors, {"number": number})


def _grid(home: Path, _: str) -> None:
    from ltgate import grid

    grid.run(grid.Grid.load(home / "soak.yaml"))


def _figures(home: Path, _: str) -> None:
    from ltgate import grid

    list(grid.report(grid.Grid.load(home / "soak.yaml")))


def _notebooks(home: Path, numbers: str) -> None:
    from ltgate.runner import execute

    execute.run([str(home / "soak.yaml")], only=numbers)


STAGES: dict[str, Callable[[Path, str], None]] = {
    "download": _download,
    "HDF5 build": _build,
    "HDF5 digits": _digits,
    "training": _train,
    "checkpoint": _save,
    "grid": _grid,
    "figures": _figures,
    "notebooks": _notebooks,
}
