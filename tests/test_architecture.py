"""The rooms as docs/architecture.md draws them: no circles, no arrows upward, names used once."""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "ltgate").rglob("*.py"))
}
LONG = 50


def rooms() -> dict[str, int]:
    """The row of every module in the page's drawing, 0 at its top."""
    drawing = (ROOT / "docs" / "architecture.md").read_text().partition("```text\n")[2]
    row, found = -1, []
    for line in drawing.partition("```")[0].splitlines():
        first, *others = line.split()
        if not line.startswith(" "):
            row, first = row + 1, ""
        found += [(name, row) for name in (first, *others) if name]
    assert len(found) == len(dict(found)), Counter(name for name, _ in found).most_common(1)
    return dict(found)


def imports(source: str, files=FILES) -> set[str]:
    """Modules of the library that a source imports, wherever in it, but not for its types alone."""

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                continue
            if isinstance(child, ast.Import):
                found.update(name.name for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                names = [f"{child.module}.{name.name}" for name in child.names]
                found.update(name if name in files else child.module for name in names)
            visit(child)

    found: set[str] = set()
    visit(ast.parse(source))
    return found & set(files)


def graph() -> dict[str, set[str]]:
    return {name: imports(path.read_text()) - {name} for name, path in FILES.items()}


def test_every_module_is_drawn_once_and_no_two_have_one_name() -> None:
    stems = Counter(path.stem for path in FILES.values() if path.stem != "__init__")
    assert not [name for name, count in stems.items() if count > 1]
    assert set(rooms()) == set(stems)


def test_no_arrow_points_to_a_later_room() -> None:
    drawn = rooms()

    def row(module: str) -> int:
        path = FILES[module]
        if module == "ltgate":  # names of its own: its version and the lazy ones
            return 0
        if path.stem != "__init__":
            return drawn[path.stem]
        return max(drawn[p.stem] for p in path.parent.glob("*.py") if p.stem != "__init__")

    packages = {module for module, path in FILES.items() if any(path.parent.glob("*/*.py"))}
    upward = [
        f"{module} -> {other}"
        for module, others in graph().items()
        for other in others
        if row(other) > row(module)
    ]
    assert packages and not upward


def test_no_circles() -> None:
    assert len(list(TopologicalSorter(graph()).static_order())) == len(FILES)


def test_what_would_be_an_arrow_is_found() -> None:
    files = {"ltgate.a": "", "ltgate.b": "", "ltgate.c": ""}
    sources = {
        "ltgate.a": "def f():\n    from ltgate import b",
        "ltgate.b": "if x:\n    import ltgate.c\nfrom ltgate.c import y",
        "ltgate.c": "if typing.TYPE_CHECKING:\n    from ltgate import a",
    }
    found = {name: imports(source, files) for name, source in sources.items()}
    assert found == {"ltgate.a": {"ltgate.b"}, "ltgate.b": {"ltgate.c"}, "ltgate.c": set()}
    with pytest.raises(CycleError):
        list(TopologicalSorter({**found, "ltgate.c": {"ltgate.a"}}).static_order())


def test_few_functions_are_long() -> None:
    long = [
        f"{name}.{node.name}"
        for name, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LONG
    ]
    assert len(long) <= 5, long
