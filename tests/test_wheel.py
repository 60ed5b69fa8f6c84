"""The wheel: installed away from the checkout it works in any folder, and writes only there."""

import os
import subprocess
import sys
import zipfile
from contextlib import chdir
from pathlib import Path

import pytest
from processes import ROOT, run_python

OFFLINE = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]


def pip(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", *map(str, words)], check=True)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    pip("wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    pip("install", *OFFLINE, "--target", folder / "site-packages", wheel)
    return folder / "site-packages"


def call(packages: Path, folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in ``folder``; ``packages`` come before this environment's own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("LTGATE_")}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True,
        env={**ours, "PYTHONPATH": str(packages), "LTGATE_PROGRESS": "off"},
    )  # fmt: skip


def files(folder: Path) -> set[Path]:
    """Every file under ``folder``, without compiled code."""
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_what_a_checkout_has_is_listed(packages: Path, tmp_path: Path) -> None:
    listed = call(packages, tmp_path, packages / "bin/ltgate", "list").stdout
    for folder, pattern in (("notebooks", "[0-9]*.ipynb"), ("params", "**/*.yaml")):
        published = {path.relative_to(ROOT / folder) for path in (ROOT / folder).glob(pattern)}
        shipped = packages / "ltgate" / "resources" / folder
        assert published == {path.relative_to(shipped) for path in shipped.glob(pattern)} != set()
        assert all(path.stem in listed for path in published)
    assert f"runs in {tmp_path}\n" in listed and not files(tmp_path)


def test_an_editable_install_needs_nothing_but_hatchling(tmp_path: Path) -> None:
    """``make setup`` makes one, from the lock."""
    code = "import sys; sys.modules['editables'] = None; from hatchling import build; "
    code += f"print(build.build_editable({str(tmp_path)!r}))"
    with chdir(ROOT):
        name = run_python(code).strip()
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert wheel.read("_ltgate.pth").decode().strip() == str(ROOT)
        assert not [name for name in wheel.namelist() if name.startswith("ltgate/")]


def test_a_run_by_name_leaves_its_files_where_the_user_is(packages: Path, tmp_path: Path) -> None:
    decoy = tmp_path / "ltgate" / "__init__.py"  # as in another checkout
    decoy.parent.mkdir()
    decoy.write_text("raise ImportError('the kernel took the package of the working directory')")
    before = files(packages)
    done = call(packages, tmp_path, packages / "bin/ltgate", "run", "smoke", "--only", "01")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data", "figures", "ltgate", "runs"}
    assert (tmp_path / "runs/smoke/notebooks/01_data.ipynb").exists()
    assert (tmp_path / "figures/smoke/table_data.csv").exists()
    assert files(packages) == before


@pytest.mark.parametrize("command", [["run", "smoke"], ["expected", "smoke"]])
def test_nothing_is_written_among_the_packages(packages: Path, command: list[str]) -> None:
    before = files(packages)
    done = call(packages, packages / "ltgate", packages / "bin/ltgate", *command)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "installed package" in done.stderr and files(packages) == before
