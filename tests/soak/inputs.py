"""Fuzzing of every input format: coverage-guided by atheris, from sound files as seeds.

Each format runs in a process of its own with a limit on memory and time. An input may be taken, or
refused by a `UserError` of one line that names the file; anything else is a failure: another
exception, a crash, a hang, memory far beyond what the input declares. A file with a checksum would
be refused by that alone, so changed ones are also given the checksum that fits ("resealed").
"""

import gzip
import json
import os
import pickle
import random
import re
import resource
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np

from ltgate.errors import UserError
from soak.record import Failed, case

INPUTS = 20_000  # of each format
FEWER = {"events": 100, "SHD": 100}  # times: a process of its own reads each
MEMORY = 64 << 20  # bytes that reading one input may take, beyond its declared size
HANG = 120  # seconds for one input
IDENTITY = "0" * 64
READERS = [
    "yaml", "gzip", "json.decoder", "ltgate.data.idx", "ltgate.params", "ltgate.grid.spec",
    "ltgate.checkpoint", "ltgate.data.task_file", "ltgate.data.streams",
    "ltgate.data.recordings",
]  # fmt: skip

Target = Callable[[Path], object]


def _call(module: str, function: str, path: Path) -> object:
    """What a function of the library, imported late, makes of a file."""
    found = import_module(f"ltgate.{module}")
    for name in function.split("."):
        found = getattr(found, name)
    return found(path)


def _task_file(path: Path) -> object:
    from ltgate.data import task_file

    try:
        rows = task_file.read(path, IDENTITY)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None  # the store builds it anew and says so
    return rows[:1].sum()


def _resealed_task(path: Path) -> object:
    from ltgate.data import task_file

    with open(path, "r+b") as file:
        task_file.sign(file)
    return _task_file(path)


def _pool(kind: str, path: Path) -> object:
    """A pool of a source whose folder this file alone makes up."""
    from ltgate.data import sources

    folder = path.parents[2] if kind == "nmnist" else path.parent
    source = sources.source(f"{kind}:{folder}")
    return source.identity("train"), source.image_shape, source.read("train")


def _resealed_snapshot(path: Path) -> object:
    """A stranger's network, as `ltgate export` takes it, under a checksum that fits."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    from ltgate import checkpoint, exchange

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = {**(file.metadata() or {}), "crc32": checkpoint._checksum(tensors)}
        save_file(tensors, path, metadata=metadata)
    except (SafetensorError, ValueError, TypeError, OSError):
        return checkpoint.load(path)
    return exchange.export(path, path.with_suffix(".nir"))


FORMATS: dict[str, tuple[Target, str]] = {
    "IDX raw": (partial(_call, "data.idx", "read"), "images-idx3-ubyte"),
    "IDX gz": (partial(_call, "data.idx", "read"), "images-idx3-ubyte.gz"),
    "task file": (_task_file, "task.h5"),
    "task file, resealed": (_resealed_task, "task.h5"),
    "events": (partial(_pool, "events"), "train.h5"),
    "SHD": (partial(_pool, "shd"), "shd_train.h5"),
    "N-MNIST": (partial(_pool, "nmnist"), "Train/0/1.bin"),
    "checkpoint": (partial(_call, "checkpoint", "load"), "last.safetensors"),
    "snapshot, resealed": (_resealed_snapshot, "task0.safetensors"),
    "parameters": (partial(_call, "params", "Params.load"), "p.yaml"),
    "grid file": (partial(_call, "grid", "Grid.load"), "g.yaml"),
    "records": (partial(_call, "files", "read_json"), "record.json"),
}


def seeds(name: str, folder: Path) -> list[bytes]:
    """Sound files of a format, and a few that are meant to harm."""
    from ltgate import checkpoint, paths
    from ltgate.data import idx

    path = folder / FORMATS[name][1]
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.startswith("IDX"):
        idx.write(path, np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28))
        bomb = b"\0\0\x08\x03" + b"\x7f\xff\xff\xff" * 3
        return [path.read_bytes(), bomb, gzip.compress(bomb + bytes(10**6))]
    if name.startswith("task file"):
        return list(_task_files(path))
    if name == "events":
        from ltgate.data import streams

        frames = np.random.default_rng(0).random((4, 5, 2, 1, 3)) < 0.3
        streams.save(path, streams.from_frames(frames), np.arange(4) % 2)
        return [path.read_bytes()]
    if name == "SHD":
        import h5py

        with h5py.File(path, "w") as file:
            for dataset, kind in (("times", np.float16), ("units", np.uint16)):
                kept = file.create_dataset(f"spikes/{dataset}", (3,), h5py.vlen_dtype(kind))
                for row in range(3):
                    kept[row] = np.arange(row + 1, dtype=kind)
            file["labels"] = np.arange(3)
        return [path.read_bytes()]
    if name == "N-MNIST":
        return [bytes([1, 2, 128, 0, 9, 0, 240, 0, 0, 0, 3, 4, 0, 0, 5])]
    if name == "checkpoint":
        import torch

        checkpoint.save(path, {"a": torch.ones(3, 4), "b": torch.zeros(2)}, {"rows": [1.5]})
        length = (2**40).to_bytes(8, "little")
        return [path.read_bytes(), length + b"{}", pickle.dumps(os.getcwd)]
    if name == "snapshot, resealed":
        return list(_snapshots(folder))
    if name == "parameters":
        found = [file.read_bytes() for file in paths.params().glob("*.yaml")]
        letters = "abcdefghijklmnopqrstuvwxyz"  # the last one stands for 2^26 values
        laughs = "a: &a [x,x]\n" + "".join(f"{b}: &{b} [*{a},*{a}]\n" for a, b in pairwise(letters))
        harm = ["!!python/object/apply:os.getcwd []", laughs, "eta: 2001-99-99", "[" * 2000]
        return [*found, *(text.encode() for text in harm), b"seeds: [" + b"9" * 5000 + b"]"]
    if name == "grid file":
        return [file.read_bytes() for file in (paths.params() / "grids").glob("*.yaml")]
    return [json.dumps({"attempts": [{"started": 1.5, "error": ""}]}).encode(), b"[" * 5000]


def _task_files(path: Path) -> Iterator[bytes]:
    """A task file of images and one of streams."""
    import h5py

    from ltgate.data import task_file

    images = {"images": np.zeros((3, 28, 28), np.uint8)}
    events = {"events": np.arange(6, dtype=np.uint32), "starts": np.array([0, 2, 2, 6])}
    for arrays, shape in ((images, (28, 28)), (events, (3, 2, 1, 1))):
        with h5py.File(path, "w", userblock_size=task_file.BLOCK) as file:
            file.update({**arrays, "labels": np.zeros(3, np.uint8)})
        task_file.seal(path, shape, IDENTITY)
        yield path.read_bytes()


def _snapshots(folder: Path) -> Iterator[bytes]:
    """The networks of two small trials."""
    from ltgate import paths, train
    from ltgate.params import Params

    with paths.environment(LTGATE_HOME=str(folder)):
        for method in ("lt_gate", "single_tau"):
            params = Params(
                train_images=16, validation_images=8, channels=[2], strides=[2], hidden=[4],
                readout_layers=["dense"], hebbian_images=4, threads=1, device="cpu", control=False,
                backend="portable",
            )  # fmt: skip
            trial = train.Trial(params, method, seed=0)
            train.train(trial)
            yield (trial.folder / "task0.safetensors").read_bytes()


def check(target: Target, path: Path, content: bytes) -> bool:
    """Whether an input is taken; raises where it is neither taken nor refused as it must be."""
    path.write_bytes(content)
    try:
        target(path)
    except UserError as error:
        if str(path) not in str(error) or "\n" in str(error):
            raise Failed(f"{str(error)[:300]!r} is not one line that names the file") from error
        return False
    return True


def worker(name: str, number: int, seed: int, folder: str) -> None:
    """Fuzz one format in this process and print how many inputs were tried and taken."""
    target, filename = FORMATS[name]
    path = Path(folder) / filename
    fuzzer = _instrumented()
    known = seeds(name, Path(folder))
    check(target, path, known[0])  # loads what it needs
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tried = taken = 0
    for content in known:
        tracemalloc.start()
        taken += check(target, path, content)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        tried += 1
        if peak > MEMORY:
            raise Failed(f"{name}: {peak} bytes of memory for {len(content)} bytes of input")

    def one(content: bytes) -> None:
        nonlocal tried, taken
        if tried >= number + len(known):
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used
            how = "guided by coverage" if fuzzer else "random changes"
            print(f"TRIED {tried} TAKEN {taken} GROWN {grown} HOW {how}", flush=True)
            os._exit(0)  # a fuzzer has no other end
        taken += check(target, path, content)
        tried += 1

    if fuzzer is None:
        draw = random.Random(seed)
        while True:
            one(mutated(draw, draw.choice(known)))
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    for place, content in enumerate(known):
        (corpus / str(place)).write_bytes(content)
    options = [f"-seed={seed + 1}", f"-timeout={HANG}", "-rss_limit_mb=4096", "-max_len=8192"]
    fuzzer.Setup([sys.argv[0], *options, "-verbosity=0", str(corpus)], one)
    fuzzer.Fuzz()


def _instrumented() -> ModuleType | None:
    """The fuzzer, with coverage of what reads files; None where it is not installed."""
    try:
        import atheris
    except ImportError:
        return None
    with atheris.instrument_imports(include=READERS):
        for module in READERS:
            import_module(module)
    return atheris


def mutated(draw: random.Random, content: bytes) -> bytes:
    """A few random changes: bytes, cuts, repeats, numbers at their limits."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(5)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] = draw.randrange(256)
        elif kind == 1:
            del data[at : at + draw.randint(1, 64)]
        elif kind == 2:
            data[at:at] = data[at : at + draw.randint(1, 64)]
        elif kind == 3:
            data[at : at + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
        else:
            data[at:at] = draw.choice([b"[", b"{", b"nan", b"-1", b"1e999", b"\0", b"\n", b"&a *a"])
    return bytes(data)


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """All formats, one process each."""
    for name in FORMATS:
        if only not in name:
            continue
        number = max(100, round(INPUTS * scale / FEWER.get(name, 1)))
        command = f"python tests/soak inputs --only '{name}'"
        with case(f"bad files: {name}", command) as row, tempfile.TemporaryDirectory() as folder:
            program = (
                f"from soak import inputs; inputs.worker({name!r}, {number}, {seed}, {folder!r})"
            )
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:2])}
            done = subprocess.run(
                [sys.executable, "-c", program], env=environment, capture_output=True, text=True,
                check=False, timeout=3600,
            )  # fmt: skip
            told = re.search(r"TRIED (\d+) TAKEN (\d+) GROWN (-?\d+) HOW (.*)", done.stdout)
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            if not told or done.returncode != 0:
                raise Failed(f"ended with {done.returncode}: {tail}")
            row["tried"] = f"{int(told[1]):,} inputs ({told[4]})"
            row["outcome"] = (
                f"{int(told[1]) - int(told[2]):,} refused in one line with the file's name, "
                f"{int(told[2]):,} sound; no other exception, hang or crash; memory grew by "
                f"{int(told[3]) / 1024:.0f} MB"
            )
