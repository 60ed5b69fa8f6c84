"""Where things lie: absolute paths, the same from every working directory.

Outputs lie in the root: the folder named by the environment variable ``LTGATE_HOME``, else the
checkout that holds this package, else (the package is installed) the working directory.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ltgate.errors import UserError

PACKAGE = Path(__file__).resolve().parent
RESOURCES = PACKAGE / "resources"  # a wheel's copy of what the checkout has beside the package


def installed() -> bool:
    """Whether this package came out of a wheel, and is not a checkout's."""
    return RESOURCES.is_dir()


def published() -> Path:
    """Folder of ``notebooks/``, ``params/`` and ``figures/`` as they were published."""
    return RESOURCES if installed() else PACKAGE.parent


def root() -> Path:
    """Folder of all outputs.

    Raises `UserError` where that would be a folder of installed packages.
    """
    home = os.environ.get("LTGATE_HOME")
    if home:
        return Path(home).resolve()
    if not installed():
        return PACKAGE.parent
    here = Path.cwd()
    if here.is_relative_to(PACKAGE.parent):
        raise UserError(
            f"{here}: outputs do not go among installed packages; work in a folder of your own, or "
            "name one in LTGATE_HOME"
        )
    return here


def own(text: str) -> Path:
    """A folder of the user's that a parameter names; a relative one starts at the root.

    ``LTGATE_INPUTS`` names another start (the runner's ``--out`` moves outputs alone).
    """
    start = os.environ.get("LTGATE_INPUTS") or root()
    return Path(start, os.path.expanduser(text)).resolve()  # Path's own raises on a strange ~user


def data() -> Path:
    """Downloads, HDF5 task files and cached features. Never committed.

    ``LTGATE_DATA_CACHE`` names another folder (the runner's ``--out`` keeps data where they are).
    """
    cache = os.environ.get("LTGATE_DATA_CACHE")
    return Path(cache).resolve() if cache else root() / "data"


def notebooks() -> Path:
    """The numbered notebooks."""
    return published() / "notebooks"


def params() -> Path:
    """The parameter files."""
    return published() / "params"


def parameter_file(name: str | Path, kind: str = "") -> Path:
    """A parameter file by its path, here or as published, or by its bare name in ``params/``.

    ``kind`` ``grids`` takes the bare name from ``params/grids/``. A path that does not exist is
    returned as it is; a bare name that is neither raises `UserError`.
    """
    path, known = Path(name), params() / kind
    candidates = (path, published() / path) if path.suffix else (known / f"{path}.yaml", path)
    found = [file for file in candidates if os.path.exists(file)]
    if not found and not path.suffix:
        names = ", ".join(sorted(file.stem for file in known.glob("*.yaml")))
        raise UserError(f"{name}: there is no such parameter file; by name there are {names}")
    return found[0] if found else path


def run(name: str) -> Path:
    """Everything one run leaves behind: notebooks, checkpoints, result rows."""
    return root() / "runs" / name


def figures(name: str) -> Path:
    """Figures and tables of the parameter file ``name``."""
    return root() / "figures" / name


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
