"""Where things lie: absolute paths, the same from every working directory.

The root is the checkout that holds this package, or the folder named by the environment variable
``LTGATE_HOME`` (for an installed package, or to keep outputs elsewhere).
"""

import os
from pathlib import Path


def checkout() -> Path:
    """Folder that holds this package: the code, the notebooks, the parameter files."""
    return Path(__file__).resolve().parent.parent


def root() -> Path:
    """Folder of the checkout (or ``LTGATE_HOME``)."""
    home = os.environ.get("LTGATE_HOME")
    return Path(home).resolve() if home else checkout()


def data() -> Path:
    """Downloads, HDF5 task files and cached features. Never committed.

    ``LTGATE_DATA_CACHE`` names another folder (the runner's ``--out`` keeps data where they are).
    """
    cache = os.environ.get("LTGATE_DATA_CACHE")
    return Path(cache).resolve() if cache else root() / "data"


def notebooks() -> Path:
    """The numbered notebooks."""
    return checkout() / "notebooks"


def params() -> Path:
    """The parameter files."""
    return checkout() / "params"


def run(name: str) -> Path:
    """Everything one run leaves behind: notebooks, checkpoints, result rows."""
    return root() / "runs" / name


def figures(name: str) -> Path:
    """Figures and tables of the parameter file ``name``."""
    return root() / "figures" / name
