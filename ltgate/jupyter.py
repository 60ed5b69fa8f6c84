"""The kernel that notebooks run in when the runner starts them."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ltgate
from ltgate import paths
from ltgate.params import Params


@contextlib.contextmanager
def this_kernel(params: Params) -> Iterator[None]:
    """Make 'python3' mean this very interpreter, with this package, for the block.

    Otherwise a kernel of that name in the user's home could run another Python.
    """
    package_root = str(Path(ltgate.__file__).resolve().parent.parent)
    search = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    variables = {"PYTHONPATH": search, "LTGATE_HOME": str(paths.root())}
    variables["LTGATE_DATA_CACHE"] = str(paths.data())
    variables["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else every kernel prints a debugger warning
    if params.threads:
        for library in ("OMP", "MKL", "OPENBLAS"):
            variables[f"{library}_NUM_THREADS"] = str(params.threads)
    with tempfile.TemporaryDirectory(prefix="ltgate-") as folder:
        spec = Path(folder) / "kernels" / "python3"
        spec.mkdir(parents=True)
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        text = json.dumps({"argv": command, "display_name": "Python 3", "language": "python"})
        (spec / "kernel.json").write_text(text)
        jupyter = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        with environment(JUPYTER_PATH=jupyter, **variables):
            yield


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
