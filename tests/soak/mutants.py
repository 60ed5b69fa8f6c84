"""Mutants: faults put into the project's own code on purpose, each of which some test must catch.

A mutant is one replacement in one file of a copy of the checkout, and the tests that are to fail
under it. One that they pass is a fault that nobody would see.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from soak.record import Failed, case

ROOT = Path(__file__).resolve().parents[2]


class Mutant(NamedTuple):
    """``old`` becomes ``new`` in ``ltgate/<file>``; ``tests`` (pytest's arguments) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant("files are written under their final names", "files.py",
           "temporary = own / path.name", "temporary = path", "test_files.py"),
    Mutant("a lock that holds nobody", "files.py",
           "fcntl.flock(file, kind | fcntl.LOCK_NB)", "pass", "test_files.py"),
    Mutant("nobody else may read what is written", "files.py",
           'temporary.chmod((own / "mode").stat().st_mode & 0o666)', "temporary.chmod(0o600)",
           "test_files.py"),
    Mutant("a device is replaced", "files.py",
           "if path.is_symlink() or (path.exists() and not path.is_file()):", "if False:",
           "test_files.py"),
    Mutant("the seal of an HDF5 file is not looked at", "data/task_file.py",
           "if file.read(SEAL) != _digest(file):", "if False:", "test_data_store.py"),
    Mutant("the checksum of a checkpoint is not looked at", "checkpoint.py",
           'metadata["crc32"] != _checksum(tensors)', "False", "test_checkpoint.py"),
    Mutant("a resumed run learns its first batches again", "train.py",
           "if number <= learned:", "if False:", "test_train.py"),
    Mutant("a resumed run draws other random numbers", "methods/base.py",
           'self.generator.bit_generator.state = plain["generator"]', "pass", "test_methods.py"),
    Mutant("curves are measured on test images", "train.py",
           'images = trial.open(index, "validation")', 'images = trial.open(index, "test")',
           "test_train.py"),
    Mutant("replaced images keep their fingerprint", "data/store.py",
           "hashlib.sha256(key.encode() + indices.tobytes())", "hashlib.sha256(indices.tobytes())",
           "test_data_store.py"),
    Mutant("changed code keeps its fingerprint", "done.py",
           'if file[0].split("/")[0] in LEARNING', 'if file[0] == "train.py"',
           "test_done.py"),
    Mutant("cut rows are done", "results.py",
           'record.get("sha256") != files.sha256(path)', "False", "test_done.py"),
    Mutant("a file of equal size and time is the same", "files.py",
           "now.st_mtime_ns, now.st_ctime_ns)", "now.st_mtime_ns)",
           "test_done.py"),
    Mutant("caches of other code are read", "done.py",
           'if record.get("code") != code():', "if False:", "test_done.py"),
    Mutant("a parameter does not enter the hash", "params.py",
           "return not (group.compute or at_default)",
           'return not (group.compute or at_default or name == "ridge")',
           "test_params.py test_frozen.py"),
    Mutant("trials run on as many threads as there are", "processes.py",
           "    torch.set_num_threads(number)\n    try:", "    try:", "test_processes.py"),
    Mutant("a process that dies is waited for in vain", "processes.py",
           "except (EOFError, OSError):", "except ZeroDivisionError:", "test_processes.py"),
    Mutant("the dual readout has no ridge", "plasticity/readout.py",
           "products.diagonal().add_(self.ridge)", "products.diagonal().add_(1e-9)",
           "test_plasticity_readout.py"),
    Mutant("a resumed readout goes on with the large matrix", "plasticity/readout.py",
           "self._few = size // 2 * few", "self._few = 0", "test_plasticity_readout.py"),
    Mutant("a neuron at its threshold is silent", "neurons.py",
           "membrane >= threshold", "membrane > threshold", "test_neurons.py"),
    Mutant("memory is never too little", "memory.py",
           "if total > free:", "if False:", "test_memory.py test_train.py"),
    Mutant("YAML with aliases", "parameter_files.py",
           "if self.check_event(yaml.events.AliasEvent):", "if False:", "test_params.py"),
    Mutant("a name that leads out of the folder", "declare.py",
           'Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]',
           'Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9.][A-Za-z0-9._/-]{0,99}$")]',
           "test_params.py"),
    Mutant("a grid file's options reach Dask unseen", "grid/spec.py",
           "if name not in allowed:", "if False:", "test_grid_doors.py test_grid_spec.py"),
    Mutant("p values are not corrected", "statistics.py",
           "p[order] * (len(p) - np.arange(len(p)))", "p[order]", "test_statistics.py"),
    Mutant("a trial with a result is run again", "results.py",
           "return not changed(folder, key)", "return False", "test_train.py"),
    Mutant("forgetting is counted from the first time alone", "metrics.py",
           "R[j:-1, j].max()", "R[j, j]", "test_metrics.py"),
)  # fmt: skip


def caught(mutant: Mutant, checkout: Path) -> bool:
    """Whether a test fails under the mutant, which is undone afterwards."""
    file = checkout / "ltgate" / mutant.file
    text = file.read_text()
    if text.count(mutant.old) < 1:
        raise Failed(f"{mutant.name}: {mutant.file} has no {mutant.old!r} any more")
    tests = [f"tests/{name}" for name in mutant.tests.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    file.write_text(text.replace(mutant.old, mutant.new))
    try:
        status = subprocess.run(
            command, cwd=checkout, env=environment, timeout=900, capture_output=True
        ).returncode
    except subprocess.TimeoutExpired:
        return True
    finally:
        file.write_text(text)
    if status > 1:  # neither passed nor failed: pytest could not run them
        raise Failed(f"{mutant.name}: pytest ended with {status}")
    return status == 1


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """Every mutant, or those whose name has ``only`` in it."""
    wanted = [mutant for mutant in MUTANTS if only in mutant.name]
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, checkout / name)
        with case("mutants", "python tests/soak mutants") as row:
            missed = [mutant.name for mutant in wanted if not caught(mutant, checkout)]
            row["tried"] = f"{len(wanted)} faults put into the code, one at a time"
            row["outcome"] = f"{len(wanted) - len(missed)} caught by a test"
            if missed:
                raise Failed("not caught: " + "; ".join(missed))
