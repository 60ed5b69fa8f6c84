"""Fuzzing of every input format: coverage-guided by atheris, from sound files as seeds.

Each format runs in a process of its own with a limit on memory and time. An input may be taken, or
refused by a `UserError` of one line that names the file; anything else is a failure: another
exception, a crash, a hang, memory far beyond what the input declares.
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
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np

from ltgate.errors import UserError
from soak.record import Failed, case

INPUTS = 20_000  # of each format
MEMORY = 64 << 20  # bytes that reading one input may take, beyond its declared size
HANG = 120  # seconds for one input
READERS = [
    "yaml", "gzip", "json.decoder", "ltgate.data.idx", "ltgate.params", "ltgate.grid.spec",
    "ltgate.checkpoint", "ltgate.results", "ltgate.data.checksum", "ltgate.data.store",
]  # fmt: skip

Target = Callable[[Path], object]


def _idx(path: Path) -> object:
    from ltgate.data import idx

    return idx.read(path)[0].sum()


def _h5(path: Path) -> object:
    """A task file as the store opens it."""
    from ltgate.data import store

    try:
        return store._inspect(path, IDENTITY).map().sum()
    except store._DamagedError as error:
        raise UserError(f"{path}: {error}") from None  # the store builds it anew and says so


def _checkpoint(path: Path) -> object:
    from ltgate import checkpoint

    return checkpoint.load(path)


def _params(path: Path) -> object:
    from ltgate.params import Params

    return Params.load(path).hash


def _grid(path: Path) -> object:
    from ltgate.grid import Grid

    return Grid.load(path).name


def _rows(path: Path) -> object:
    from ltgate import results

    return len(results._read(path))


def _record(path: Path) -> object:
    from ltgate import files

    return files.read_json(path).get("attempts", [])


IDENTITY = "0" * 64
FORMATS: dict[str, tuple[Target, str]] = {
    "IDX raw": (_idx, "images-idx3-ubyte"),
    "IDX gz": (_idx, "images-idx3-ubyte.gz"),
    "HDF5": (_h5, "task.h5"),
    "checkpoint": (_checkpoint, "last.safetensors"),
    "parameters": (_params, "p.yaml"),
    "grid file": (_grid, "g.yaml"),
    "result rows": (_rows, "rows.csv"),
    "records": (_record, "record.json"),
}


def seeds(name: str, folder: Path) -> list[bytes]:
    """Sound files of a format, and a few that are meant to harm."""
    from ltgate import checkpoint, paths
    from ltgate.data import checksum, idx

    path = folder / FORMATS[name][1]
    if name.startswith("IDX"):
        idx.write(path, np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28))
        bomb = b"\0\0\x08\x03" + b"\x7f\xff\xff\xff" * 3
        return [path.read_bytes(), bomb, gzip.compress(bomb + bytes(10**6))]
    if name == "HDF5":
        import h5py

        with h5py.File(path, "w", userblock_size=checksum.BYTES) as file:
            file["images"] = np.zeros((3, 28, 28), np.uint8)
            file["labels"] = np.zeros(3, np.uint8)
            file.attrs["source_sha256"] = IDENTITY
        checksum.write(path)
        return [path.read_bytes()]
    if name == "checkpoint":
        import torch

        checkpoint.save(path, {"a": torch.ones(3, 4), "b": torch.zeros(2)}, {"rows": [1.5]})
        length = (2**40).to_bytes(8, "little")
        return [path.read_bytes(), length + b"{}", pickle.dumps(os.getcwd)]
    if name == "parameters":
        found = [file.read_bytes() for file in paths.params().glob("*.yaml")]
        letters = "abcdefghijklmnopqrstuvwxyz"  # the last one stands for 2^26 values
        laughs = "a: &a [x,x]\n" + "".join(f"{b}: &{b} [*{a},*{a}]\n" for a, b in pairwise(letters))
        harm = ["!!python/object/apply:os.getcwd []", laughs, "eta: 2001-99-99", "[" * 2000]
        return [*found, *(text.encode() for text in harm), b"seeds: [" + b"9" * 5000 + b"]"]
    if name == "grid file":
        return [file.read_bytes() for file in (paths.params() / "grids").glob("*.yaml")]
    if name == "result rows":
        header = (
            "config,method,seed,sequence,cue,train_images,split,scenario,step,task,metric,value"
        )
        line = "abc,joint,0,fast>slow,yes,60,test,class,0,fast,accuracy,0.5"
        return [f"{header}\n{line}\n".encode(), f"{header}\n{line},1\n".encode()]
    return [json.dumps({"attempts": [{"started": 1.5, "error": ""}]}).encode(), b"[" * 5000]


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
        number = max(100, round(INPUTS * scale))
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
