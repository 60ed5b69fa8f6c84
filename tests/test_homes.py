"""Caches and settings of other libraries on machines without a writable home."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ltgate import homes

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """A home, a folder for temporary files and none of the libraries' variables; the first."""
    for name in [*homes.PLACES, *homes.BASES]:
        monkeypatch.delenv(name, raising=False)
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield home
    for name in homes.PLACES:  # what `ensure` has set
        os.environ.pop(name, None)


def named() -> dict[str, str]:
    return {name: os.environ[name] for name in homes.PLACES if name in os.environ}


@pytest.mark.parametrize("lacking", ["missing", "read-only"])
def test_without_a_home_all_get_one_private_folder(bare, lacking, monkeypatch):
    if lacking == "read-only":  # by the answer of the system: root may write everywhere
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:
        monkeypatch.setenv("HOME", "/proc/none")
    homes.ensure()
    private = Path(tempfile.gettempdir()) / f"ltgate-{os.getuid()}"
    assert named() == {name: str(private / name.lower()) for name in homes.PLACES}
    assert private.stat().st_mode & 0o777 == 0o700
    os.environ["NUMBA_CACHE_DIR"] = "/mine"
    before = named()
    homes.ensure()  # and so in every process; what the user names stays
    assert named() == before


def test_a_folder_of_one_library_that_is_not_ours(bare, monkeypatch):
    """As ``sudo`` leaves them; a home that can be written to is used as always."""
    homes.ensure()
    assert named() == {}
    (bare / ".cache" / "numba").mkdir(parents=True)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, how: path.name != "numba" and allowed(path, how))
    homes.ensure()
    assert set(named()) == {"NUMBA_CACHE_DIR"}


@pytest.mark.parametrize("trap", ["open to others", "a link", "another user's"])
def test_a_folder_that_others_could_write_to_is_not_used(bare, trap, monkeypatch):
    expected = Path(tempfile.gettempdir()) / f"ltgate-{os.getuid()}"
    if trap == "a link":
        expected.symlink_to(bare)
    else:
        expected.mkdir(mode=0o700)
    if trap == "open to others":
        expected.chmod(0o777)
    if trap == "another user's":
        user = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: user + 1)
        expected.rename(expected.with_name(f"ltgate-{user + 1}"))
    found = homes.private()
    assert found.name.startswith("ltgate-") and found.resolve().parent == expected.parent
    assert found.name not in (expected.name, f"ltgate-{os.getuid()}")


def test_libraries_work_and_are_silent_without_a_home(tmp_path):
    """Numba compiles and keeps what it compiled; Matplotlib, IPython and Jupyter find a folder."""
    program = """
import ltgate, warnings
warnings.simplefilter("error")
import matplotlib, numba
from IPython.paths import get_ipython_dir
from jupyter_core.paths import jupyter_config_dir, jupyter_runtime_dir
exec(compile("def one(): return 1", ltgate.__file__, "exec"))
print(numba.njit(cache=True)(one)())
print(matplotlib.get_configdir(), matplotlib.get_cachedir())
print(get_ipython_dir(), jupyter_config_dir(), jupyter_runtime_dir())
"""
    environment = {k: v for k, v in os.environ.items() if k not in [*homes.PLACES, *homes.BASES]}
    environment |= {"HOME": "/proc/none", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    number, *folders = done.stdout.split()
    private = tmp_path / f"ltgate-{os.getuid()}"
    assert number == "1" and len(folders) == 5
    assert all(Path(folder).is_relative_to(private) for folder in folders)
    assert list(private.glob("numba_cache_dir/*/*.nbi"))
