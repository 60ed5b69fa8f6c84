"""Where other libraries keep their caches and settings, also where the home cannot be written.

Numba refuses to compile without a folder for its cache, Jupyter to start a kernel without one for
its data; Matplotlib and IPython make a new folder in every process, and say so. On a machine whose
home is missing, read-only or somebody else's they get one private temporary folder of this user.
"""

import os
import stat
from pathlib import Path

# Variable of a library -> the folders it uses otherwise: base folder, and its own in there.
PLACES = {
    "NUMBA_CACHE_DIR": [("XDG_CACHE_HOME", "numba")],
    "MPLCONFIGDIR": [("XDG_CONFIG_HOME", "matplotlib"), ("XDG_CACHE_HOME", "matplotlib")],
    "IPYTHONDIR": [("HOME", ".ipython")],
    "JUPYTER_CONFIG_DIR": [("HOME", ".jupyter")],
    "JUPYTER_DATA_DIR": [("XDG_DATA_HOME", "jupyter")],
    "TRITON_CACHE_DIR": [("HOME", ".triton/cache")],
}
BASES = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share"}


def ensure() -> None:
    """Name a folder for every library that has none it can write to; before they are imported.

    What the user's own environment names is left as it is.
    """
    for variable, places in PLACES.items():
        if variable not in os.environ and not all(_writable(*place) for place in places):
            os.environ[variable] = str(private() / variable.lower())


def private() -> Path:
    """A temporary folder that this user alone can write to, the same for all processes.

    Compiled code is kept there and run, so one that another user made is never used.
    """
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"ltgate-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="ltgate-"))


def _writable(base: str, name: str) -> bool:
    """Whether files can be made in folder ``name`` of ``base``, or that folder itself."""
    home = Path("~").expanduser()
    folder = Path(os.environ.get(base) or home / BASES.get(base, ""))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    used = folder / name
    return os.access(used if used.exists() else folder, os.W_OK | os.X_OK)
