"""The kernel that notebooks run in when the runner starts them."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ltgate import files, paths

if TYPE_CHECKING:
    from ltgate.params import Params


@contextlib.contextmanager
def this_kernel(params: "Params") -> Iterator[None]:
    """Make 'python3' mean this very interpreter, with this package, for the block.

    Otherwise a kernel of that name in the user's home could run another Python.
    """
    folder = paths.run(params.name) / ".jupyter"
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    command += ["--log-level=CRITICAL"]  # its warnings are about the connection, not the work
    command += ["--IPKernelApp.ignore_cwd=True"]  # another checkout may be the working directory
    with files.atomic(folder / "kernels" / "python3" / "kernel.json") as temporary:
        spec = {"argv": command, "display_name": "Python 3", "language": "python"}
        temporary.write_text(json.dumps(spec))
    variables = {
        "JUPYTER_PATH": _before(str(folder), "JUPYTER_PATH"),
        "PYTHONPATH": _before(str(paths.PACKAGE.parent), "PYTHONPATH"),
        "LTGATE_HOME": str(paths.root()),
        "LTGATE_DATA_CACHE": str(paths.data()),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else every kernel prints a debugger warning
    }
    if params.threads:
        for library in ("OMP", "MKL", "OPENBLAS"):
            variables[f"{library}_NUM_THREADS"] = str(params.threads)
    with paths.environment(**variables):
        yield


def _before(folder: str, variable: str) -> str:
    """``folder`` put before what the environment variable lists."""
    return os.pathsep.join(filter(None, [folder, os.environ.get(variable)]))
