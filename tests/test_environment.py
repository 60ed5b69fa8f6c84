"""environment.yml and pyproject.toml name the same packages and versions for Python 3.10."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ltgate

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
# conda-forge's name -> PyPI's, where they differ
PYPI_NAMES = {"pytorch-cpu": "torch", "dask-core": "dask"}
EDITABLE = "-e .[test]"


def pyproject_pins(text: str, python: str) -> dict[str, str]:
    """Pinned versions by package name, the extra ``test`` included, that ``python`` (3.x) gets."""
    project = tomllib.loads(text)["project"]
    pins = {}
    for line in project["dependencies"] + project["optional-dependencies"]["test"]:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            name = canonicalize_name(requirement.name)
            assert name not in pins, f"{name} is pinned twice for Python {python}"
            pins[name] = exact_version(str(requirement.specifier))
    return pins


def conda_pins(text: str) -> dict[str, str]:
    """Pinned versions by PyPI name; ``python`` and the editable line under their own names."""
    pins = {}
    for line in yaml.safe_load(text)["dependencies"]:
        for entry in line["pip"] if isinstance(line, dict) else [line]:
            if entry == "pip" or entry.startswith("-e "):
                pins[entry] = ""
            elif entry.startswith("python="):
                pins["python"] = entry.removeprefix("python=")
            else:
                name, version = re.fullmatch(r"([\w.-]+)(==.*)", entry).groups()
                pins[canonicalize_name(PYPI_NAMES.get(name, name))] = exact_version(version)
    return pins


def exact_version(specifier: str) -> str:
    """The version of ``==version``; anything looser is an error."""
    match = re.fullmatch(r"==([\w.]+)", specifier)
    assert match, f"{specifier!r} is not an exact version"
    return match[1]


def differences(pyproject: str, environment: str) -> list[str]:
    """One line for each package on which the two texts differ for Python 3.10."""
    wanted = pyproject_pins(pyproject, "3.10") | {"python": "3.10", "pip": "", EDITABLE: ""}
    found = conda_pins(environment)
    return [
        f"{name}: pyproject.toml {wanted.get(name)}, environment.yml {found.get(name)}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]


@pytest.fixture(scope="module")
def pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def environment() -> str:
    return (ROOT / "environment.yml").read_text()


def test_environment_agrees_with_pyproject(pyproject: str, environment: str) -> None:
    assert differences(pyproject, environment) == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("scipy==1.15.3", "scipy==1.15.2", "scipy"),
        ("pytorch-cpu==2.14.1", "pytorch-cpu==2.14.0", "torch"),
        ("  - pyyaml==6.0.3\n", "", "pyyaml"),
        ("  - pip\n", "  - pip\n  - requests==2.34.2\n", "requests"),
        ("python=3.10", "python=3.11", "python"),
        (EDITABLE, "-e .", "-e ., -e .[test]"),
    ],
)
def test_a_difference_is_found(
    pyproject: str, environment: str, old: str, new: str, named: str
) -> None:
    assert environment.count(old) == 1
    altered = environment.replace(old, new)
    assert ", ".join(line.split(":")[0] for line in differences(pyproject, altered)) == named


def test_a_loose_version_is_refused(pyproject: str, environment: str) -> None:
    loose = environment.replace("tqdm==", "tqdm==4.*,>=")
    with pytest.raises(AssertionError, match="not an exact version"):
        differences(pyproject, loose)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_newer_python_differs_only_in_what_lava_needs(pyproject: str, python: str) -> None:
    oldest, newer = pyproject_pins(pyproject, "3.10"), pyproject_pins(pyproject, python)
    changed = {name for name in oldest.keys() | newer.keys() if oldest.get(name) != newer.get(name)}
    assert changed == {"lava-nc", "networkx", "numpy"}


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    archive = json.loads((ROOT / ".zenodo.json").read_text())
    assert citation["version"] == archive["version"] == ltgate.__version__
    assert f"## {ltgate.__version__} " in (ROOT / "CHANGELOG.md").read_text()
    assert citation["license"] == archive["license"] == "MIT"
    assert citation["title"] == archive["title"]


def test_binder_finds_the_environment_and_runs_what_follows() -> None:
    """repo2docker reads the root's files only where there is no folder of its own."""
    assert not any((ROOT / folder).exists() for folder in ("binder", ".binder"))
    script = ROOT / "postBuild"
    assert os.access(script, os.X_OK) and script.read_text().startswith("#!")
