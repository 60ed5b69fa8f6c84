"""The notebooks as files: parameters, order of cells, size, kernel. nbval runs them."""

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from ltgate import paths

LONGEST_CELL = 15
DESIGNED = (
    "01_data", "02_train_fast", "03_train_slow", "04_grid_search", "05_loihi2", "06_performance",
    "07_timescales",
)  # fmt: skip
NOTEBOOKS = sorted(paths.notebooks().glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    """Code cells, the one tagged 'parameters' first."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert "parameters" in cells[0].metadata.get("tags", []), "the first code cell has the tag"
    return cells


def defaults(path: Path) -> dict[str, Any]:
    """Names and values in the parameters cell, which holds plain assignments only."""
    values = {}
    for statement in ast.parse(code_cells(path)[0].source).body:
        assert isinstance(statement, ast.Assign | ast.AnnAssign), ast.unparse(statement)
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        assert len(targets) == 1 and isinstance(targets[0], ast.Name), ast.unparse(statement)
        values[targets[0].id] = ast.literal_eval(statement.value)
    return values


def test_the_notebooks_are_those_of_the_design_in_its_order() -> None:
    """Some may be missing still; none has another name or number."""
    assert len(NOTEBOOKS) >= 3
    assert [path.stem for path in NOTEBOOKS] == [
        name for name in DESIGNED if (paths.notebooks() / f"{name}.ipynb").exists()
    ]


@each_notebook
def test_it_opens_with_a_parameter_file_and_no_change(path: Path) -> None:
    """The same in all, so that one after the other they find each other's checkpoints."""
    assert defaults(path) == {"parameters": "quick", "changes": {}}


@each_notebook
def test_papermill_sees_them(path: Path) -> None:
    told = papermill.inspect_notebook(str(path))
    assert {name: told[name]["inferred_type_name"] for name in told} == {
        "parameters": "str", "changes": "dict",
    }  # fmt: skip
    assert all(parameter["help"] for parameter in told.values())


@each_notebook
def test_its_headings_are_a_table_of_contents(path: Path) -> None:
    """One title, then sections; the last says what was written and what to open next."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    text = "\n".join(cell.source for cell in cells)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1 and set(levels[1:]) == {2} and len(levels) > 2
    last = nbformat.read(path, as_version=4).cells[-1].source
    assert last.startswith("## What was written") and "**Written:** `figures/<name>/" in last
    for link in re.findall(r"\]\(([^)]+\.ipynb)\)", text):
        assert (paths.notebooks() / link).is_file(), link


@each_notebook
def test_the_cell_after_the_parameters_validates_them(path: Path) -> None:
    calls = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code_cells(path)[1].source))
        if isinstance(node, ast.Call)
    ]
    assert {"from_namespace(globals())", "params.from_namespace(globals())"} & set(calls)


@each_notebook
def test_cells_are_short(path: Path) -> None:
    for cell in code_cells(path)[1:]:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= LONGEST_CELL, cell.source


@each_notebook
def test_nothing_is_defined_in_it(path: Path) -> None:
    """Functions and classes belong to the library."""
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef), cell.source


@each_notebook
def test_it_starts_with_a_title_and_explains_before_it_computes(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert len(first.source.splitlines()) > 1


@each_notebook
def test_the_kernel_is_the_common_one(path: Path) -> None:
    assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"


@each_notebook
def test_it_is_committed_with_its_outputs_and_no_error(path: Path) -> None:
    """nbval compares with what is there: a notebook without outputs would always pass."""
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    kinds = {output.output_type for output in outputs}
    assert "error" not in kinds
    assert any(output.output_type == "stream" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    for output in outputs:
        assert output.get("name") != "stderr", output.get("text")


@each_notebook
def test_its_opening_says_how_long_a_cell_takes(path: Path) -> None:
    """tests/test_jupyterlab.py compares it with what JupyterLab records."""
    opening = nbformat.read(path, as_version=4).cells[0].source
    assert re.search(r"\*\*Time:\*\* up to \d+ s a cell", opening)
