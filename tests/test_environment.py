"""The lock, the environment files and the version agree with pyproject.toml."""

import importlib.metadata
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import ltgate

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ("notebooks", "cluster", "loihi", "test", "site")
PYTHONS = ("3.12", "3.13", "3.14")


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked(*names: str) -> dict[str, Requirement]:
    """Locked requirements of ``requirements/<name>.txt`` by package name."""
    text = "".join((ROOT / "requirements" / f"{name}.txt").read_text() for name in names)
    lines = re.findall(r"^[^\s#-].*?(?= *\\?$)", text, re.MULTILINE)
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def wanted(project: dict, *extras: str) -> Iterator[Requirement]:
    lines = [project["optional-dependencies"][extra] for extra in extras]
    for line in sum(lines, project["dependencies"]):
        yield Requirement(line)


def differences(needs: list[Requirement], lock: dict[str, Requirement]) -> list[str]:
    """One line for each package that the lock lacks, or has in a version that is not allowed."""
    told = []
    for need in needs:
        found = lock.get(canonicalize_name(need.name))
        version = str(found.specifier).removeprefix("==") if found else None
        if version is None or not need.specifier.contains(version):
            told.append(f"{need}: locked is {version}")
    return told


def test_the_lock_has_what_pyproject_asks_for(project: dict) -> None:
    assert differences(list(wanted(project, *DEFAULT)), locked("default", "torch")) == []
    for extra in ("peers", "browser", "fuzz", "gpu"):
        lock = locked("default", "torch", extra)
        assert differences(list(wanted(project, extra)), lock) == []
    lines = ["numpy>=3", "requests-ftp>=1"]  # a version that is not allowed, a package it lacks
    assert len(differences(list(map(Requirement, lines)), locked("default", "torch"))) == 2


def test_the_lock_is_exact_hashed_and_names_no_address() -> None:
    for file in (ROOT / "requirements").glob("*.txt"):
        text = file.read_text()
        assert "://" not in text and "--index" not in text and "--find-links" not in text
        entries = re.split(r"\n(?=[^\s])", text.strip())
        for entry in entries:
            assert re.match(
                r"[\w.-]+==[\w.+]+( ; .*)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n)?)+$", entry
            )


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_is_closed(project: dict, python: str) -> None:
    """Whatever a locked package needs on Linux is locked too (by the metadata installed here)."""
    lock = locked("default", "torch")
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "extra": "",
    }
    left = list(wanted(project, *DEFAULT))
    seen: set[tuple[str, ...]] = set()
    while left:
        need = left.pop()
        name = canonicalize_name(need.name)
        assert name in lock, f"{need} is not locked"
        if (name, *sorted(need.extras)) in seen:
            continue
        seen.add((name, *sorted(need.extras)))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another platform or Python
            continue
        for inner in map(Requirement, lines):
            extras = ("", *need.extras)
            markers = [{**machine, "extra": extra} for extra in extras]
            if not inner.marker or any(map(inner.marker.evaluate, markers)):
                left.append(inner)
    assert len(seen) > 100


def test_conda_brings_the_same_torch_and_an_allowed_python(project: dict) -> None:
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    torch = next(line for line in lines if line.startswith("pytorch-cpu")).partition("==")[2]
    assert str(locked("torch")["torch"].specifier) == f"=={torch}"
    python = next(line for line in lines if line.startswith("python=")).removeprefix("python=")
    assert python in PYTHONS


def test_the_same_pythons_everywhere(project: dict) -> None:
    allowed = SpecifierSet(project["requires-python"])
    assert [f"3.{minor}" for minor in range(8, 20) if allowed.contains(f"3.{minor}")] == [*PYTHONS]
    classified = [line for line in project["classifiers"] if re.search(r":: 3\.\d", line)]
    assert [line.rpartition(" ")[2] for line in classified] == [*PYTHONS]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == [*PYTHONS]


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
