"""The notebooks as files: parameters, order of cells, size, kernel. nbval runs them."""

import ast
import re
from pathlib import Path

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


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def test_the_notebooks_are_those_of_the_design_in_its_order() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(DESIGNED)


@each_notebook
def test_it_opens_with_a_parameter_file_and_no_change(path: Path) -> None:
    """The same in all, so that one after the other they find each other's checkpoints."""
    first, second, *_ = cells(path, "code")
    assert "parameters" in first.metadata.get("tags", [])
    assigned = {node.target.id: node.value for node in ast.parse(first.source).body}
    values = {name: ast.literal_eval(value) for name, value in assigned.items()}
    assert values == {"parameters": "quick", "changes": {}}
    assert "from_namespace(globals())" in second.source, "which validates them"
    told = papermill.inspect_notebook(str(path))
    kinds = {name: told[name]["inferred_type_name"] for name in told}
    assert kinds == {"parameters": "str", "changes": "dict"}
    assert all(parameter["help"] for parameter in told.values())


@each_notebook
def test_its_text_is_a_title_sections_and_what_was_written(path: Path) -> None:
    """The last section says what to open next."""
    notebook = nbformat.read(path, as_version=4)
    first, last = notebook.cells[0], notebook.cells[-1].source
    assert first.cell_type == "markdown" and len(first.source.splitlines()) > 1
    assert re.search(r"\*\*Time:\*\* up to \d+ s a cell", first.source)  # see test_jupyterlab.py
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1 and set(levels[1:]) == {2} and len(levels) > 2
    assert last.startswith("## What was written") and "**Written:** `figures/<name>/" in last
    for link in re.findall(r"\]\(([^)]+\.ipynb)\)", text):
        assert (paths.notebooks() / link).is_file(), link
    assert notebook.metadata.kernelspec.name == "python3"


@each_notebook
def test_its_cells_are_short_and_define_nothing(path: Path) -> None:
    """Functions and classes belong to the library."""
    for cell in cells(path, "code"):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= LONGEST_CELL, cell.source
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef), cell.source


@each_notebook
def test_it_is_committed_with_its_outputs_and_no_error(path: Path) -> None:
    """nbval compares with what is there: a notebook without outputs would always pass."""
    outputs = [output for cell in cells(path, "code") for output in cell.outputs]
    assert any(output.output_type == "stream" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    for output in outputs:
        assert output.output_type != "error" and output.get("name") != "stderr", output
