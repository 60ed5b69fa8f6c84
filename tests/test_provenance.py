"""What counts as learning code: every module that can change a learned number, and no other."""

import ast
import shutil
from pathlib import Path

import pytest
from processes import run_python
from small_grid import PARAMS

import ltgate
from ltgate import provenance

# What training imports and no learned number depends on.
HARMLESS = {
    "__init__": "the version",
    "errors": "kinds of errors",
    "files": "whole files, locks and checksums",
    "homes": "folders of other libraries' caches",
    "lazy": "imports names when they are used",
    "provenance": "notes what was run, and this list",
    "parameter_files": "what a file gives is in the record of the result",
    "paths": "where things lie",
    "progress": "bars",
    "stages": "labels of a profiler, and times",
    "statistics": "tables of result rows that are there",
}
# Rooms of which only the declaration of parameters is loaded; values are in a result's record.
DECLARING = {
    "grid", "grid.parameters", "loihi", "loihi.chip_parameters", "perf", "perf.bench_parameters",
}  # fmt: skip


def named(package: Path, file: Path) -> set[str]:
    """Modules of the library that a file imports, wherever in it, or names in a string."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
    parts = [name.split(".")[1:] for name in found if name.startswith("ltgate.") and name[7:]]
    return {
        ".".join(part)
        for part in parts
        if package.joinpath(*part).is_dir() or package.joinpath(*part).with_suffix(".py").is_file()
    }


def forgotten(package: Path) -> set[str]:
    """Modules and packages that learning code uses and neither list names."""
    listed = {name.removesuffix(".py") for name in provenance.LEARNING}
    files = [
        file
        for name in listed
        for file in [*(package / name).rglob("*.py"), (package / name).with_suffix(".py")]
        if file.is_file()
    ]
    used = {name.split(".")[0] for file in files for name in named(package, file)}
    return used - listed - HARMLESS.keys()


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of the library, which `provenance` takes for the real one."""
    folder = tmp_path / "ltgate"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(ltgate.__file__).parent, folder, ignore=ignored)
    monkeypatch.setattr(ltgate, "__file__", str(folder / "__init__.py"))
    return folder


def test_the_list_names_what_there_is():
    package = Path(ltgate.__file__).parent
    assert all((package / name).exists() for name in provenance.LEARNING)
    assert not {name.removesuffix(".py") for name in provenance.LEARNING} & HARMLESS.keys()


def test_no_module_that_learning_uses_is_forgotten(copy):
    assert forgotten(copy) == set()


@pytest.mark.parametrize(
    "line", ["import ltgate.new", "def f():\n    from ltgate import new", "NAME = 'ltgate.new:New'"]
)
def test_a_new_module_that_learning_uses_is_found(copy, line):
    (copy / "new.py").write_text("")
    with open(copy / "plasticity" / "readout.py", "a") as file:
        file.write(f"\n{line}\n")
    assert forgotten(copy) == {"new"}


def test_what_a_training_has_loaded_is_on_the_list(tmp_path, home, cache):
    """Imported in the end, by whatever way; in a process of its own."""
    program = f"""
import sys
from ltgate import train
from ltgate.params import Params
methods = ["lt_gate", "hlop", "dsd_snn", "replay"]
for trial in train.trials(Params(name="small", methods=methods, seeds=[0], **{PARAMS!r})):
    train.run_trial(trial)
print(*(name for name in sys.modules if name.startswith("ltgate.")))
"""
    printed = run_python(program).splitlines()[-1]
    modules = {name.removeprefix("ltgate.") for name in printed.split()}
    loaded = {name.split(".")[0] for name in modules - DECLARING}
    listed = {name.removesuffix(".py") for name in provenance.LEARNING}
    assert {"train", "methods", "surrogate", "backends", "plasticity"} <= loaded
    assert loaded <= listed | HARMLESS.keys()


def test_a_comment_changes_the_fingerprint_of_learning_code_alone(copy):
    before, files = provenance.learning_code(), sorted(copy.rglob("*.py"))
    changed = set()
    for file in files:
        text = file.read_text()
        file.write_text(text + "# a comment\n")
        if provenance.learning_code() != before:
            changed.add(file.relative_to(copy).parts[0])
        file.write_text(text)
    assert provenance.learning_code() == before
    assert changed == provenance.LEARNING


@pytest.mark.parametrize("body", ["#!/bin/sh\nprintf '\\377 bad'", "#!/nonexistent/interpreter"])
def test_optional_information_ends_nothing(body: str, tmp_path: Path, monkeypatch) -> None:
    """A broken nvidia-smi is none."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(body)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert provenance.machine.__wrapped__()["gpu"] == "none"
