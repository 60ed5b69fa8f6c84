"""The command line: its own name, its version, names of parameter files, what it loads."""

import sys
import tomllib
from pathlib import Path

import pytest
from processes import ROOT, run_python

import ltgate
from ltgate import __main__, paths
from ltgate.errors import UserError
from ltgate.params import Params

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = {"IPython", "dask", "matplotlib", "numba", "numpy", "pandas", "papermill", "torch"}


def loaded(code: str) -> set[str]:
    """Modules in memory after ``code`` has run in a process of its own."""
    code += "\nimport sys; print('loaded', *sys.modules)"
    return set(run_python(code).split("loaded ")[-1].split())


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("import ltgate", {"pydantic", "yaml"}),
        ("import ltgate.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass",
         {"pydantic", "yaml"}),
        ("import ltgate.__main__ as m\nm.main(['list'])", set()),
    ],
)  # fmt: skip
def test_what_only_tells_loads_nothing_heavy(code: str, more: set[str]) -> None:
    assert not loaded(code) & (HEAVY | more)


@pytest.mark.parametrize("argument", ["--help", "help"])
@pytest.mark.parametrize(
    ("called", "told"),
    [("/usr/bin/ltgate", "ltgate"), ("/x/ltgate/__main__.py", "python3.99 -m ltgate")],
)
def test_help_names_the_command_as_it_was_typed(
    argument: str, called: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr(sys, "executable", "/opt/bin/python3.99")
    with pytest.raises(SystemExit) as stopped:
        __main__.main([argument])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {told} [-h] [--version] command")


def test_parameters_are_told_in_sections_and_by_words(capsys) -> None:
    __main__.main(["parameters"])
    everything = capsys.readouterr().out
    assert all(f"\n{name}: " in everything for name in Params.model_fields)
    assert everything.count("\n---") >= len(set(Params.groups.values()))
    __main__.main(["parameters", "GAMMA", "weight"])
    section, rule, line = capsys.readouterr().out.splitlines()
    assert (section, rule) == ("Gate", "----") and line.startswith("gamma: ")
    assert __main__.main(["parameters", "nothing-such"]) == 2
    assert capsys.readouterr().err == "error: parameters: none has 'nothing-such'\n"


def test_the_version_is_told(capsys) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["--version"])
    assert capsys.readouterr().out == f"ltgate {ltgate.__version__}\n"


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (["run", "smoke"], "papermill", "notebooks"),
        (["run", "smoke"], "distributed", "cluster"),
        (["grid", "published"], "dask", "cluster"),
        (["bench"], "dask", "cluster"),
        (["report", "smoke"], "nbconvert", "notebooks"),
    ],
)
def test_a_missing_extra_is_told_before_any_work(
    command: list[str], module: str, extra: str, home: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert __main__.main(command) == 2
    told = f"error: not installed: {module}; pip install 'ltgate[{extra}]' brings it\n"
    assert capsys.readouterr().err == told and not any(home.iterdir())


def test_the_extras_are_those_of_the_package() -> None:
    named = {extra: " ".join(lines) for extra, lines in PYPROJECT["optional-dependencies"].items()}
    for extra, modules in __main__.EXTRAS.items():
        assert all(f"{module}>=" in named[extra] for module in modules)


def test_a_parameter_file_is_found_by_name_and_by_published_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    published = Params.load(ROOT / "params" / "quick.yaml")
    assert Params.load("quick") == Params.load("params/quick.yaml") == published
    assert paths.parameter_file("published", "grids") == ROOT / "params/grids/published.yaml"
    (tmp_path / "params").mkdir()
    (tmp_path / "params/quick.yaml").write_text("name: mine")
    assert Params.load("params/quick.yaml").name == "mine", "what is here wins"
    assert Params.load("quick") == published
    with pytest.raises(UserError, match=r"^nowhere: .* by name there are .*published, .*_quick$"):
        paths.parameter_file("nowhere", "grids")
    assert paths.parameter_file("nowhere.yaml") == Path("nowhere.yaml")
