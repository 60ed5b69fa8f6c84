"""The site: the repository's own pages, notebooks and results, and the API from its docstrings.

``make site`` writes it to ``site/``, offline. Pages that follow from something else are made anew
in ``docs/made/``: parameters, every run's tables and figures, the modules (not under the tag
``pages``, for a test).
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "docs" / "made"
sys.path.insert(0, str(ROOT))

from docutils.nodes import SkipNode  # noqa: E402
from docutils.utils.math.latex2mathml import tex2mathml  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import ltgate  # noqa: E402
from ltgate.params import Params  # noqa: E402

project, release = "ltgate", ltgate.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "docs/**", "notebooks/*.ipynb", "params/README.md", "tests/README.md", "*.md", "figures/**.png",
]  # fmt: skip
exclude_patterns = [".venv", ".git", "data", "ltgate", "runs", "site", "tests/soak", "tests/data"]
html_theme, html_title = "furo", "ltgate"
html_math_renderer = "mathml"
html_extra_path = ["redirect"]  # index.html
html_static_path, html_css_files = ["static"], ["tables.css"]
nb_execution_mode = "off"  # what is committed is shown
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "ref.python"]
autodoc_default_options = {"exclude-members": "set"}  # matplotlib's own
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_use_ivar = True
autodoc_mock_imports = ["lava", "triton"]


def page(name: str, *parts: str) -> str:
    """Write a made page; its name."""
    (MADE / f"{name}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return name


def contents(title: str, names: list[str]) -> str:
    """A table of contents under a heading."""
    return "\n".join([f"# {title}\n", "```{toctree}", ":maxdepth: 1", *names, "```"])


def parameters() -> None:
    """One section a group, one line a parameter."""
    parts, told = ["# Parameters"], Params.help()
    for group in dict.fromkeys(Params.groups.values()):
        lines = [f"- `{name}`: {told[name]}" for name in group.model_fields]
        parts += [f"## {group.__doc__.strip().splitlines()[0]}", "\n".join(lines)]
    page("parameters", *parts)


def results() -> None:
    """A page for every folder of ``figures/``: its tables, then its pictures."""
    names = []
    for folder in sorted(path for path in (ROOT / "figures").iterdir() if path.is_dir()):
        parts = [f"# {folder.name}"]
        for table in sorted(folder.glob("*.md")):
            parts += [f"## {table.stem}", table.read_text(encoding="utf-8")]
        for picture in sorted(folder.glob("*.png")):
            parts += [f"## {picture.stem}", f"![{picture.stem}](/{picture.relative_to(ROOT)})"]
        names.append(page(f"run-{folder.name}", *parts))
    page("results", contents("All tables and figures", names))


def modules() -> None:
    """A page for every room of the library, with every module that it has."""
    names, package = [], Path(ltgate.__file__).parent
    rooms = {path.relative_to(package).parts[0] for path in package.rglob("*.py")}
    for room in () if tags.has("pages") else sorted(rooms):  # noqa: F821
        files = sorted(package.glob(f"{room}/**/*.py")) or [package / room]
        paths = [file.relative_to(package.parent).with_suffix("") for file in files]
        dotted = [".".join(path.parts).removesuffix(".__init__") for path in paths]
        parts = [
            f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```"
            for name in dotted
            if "__main__" not in name
        ]
        if parts:
            names.append(page(f"api-{room.removesuffix('.py')}", f"# {dotted[0]}", *parts))
    page("api", contents("The library", names))


def formula(translator, node) -> None:
    """A formula as the browser's own MathML: no script from elsewhere."""
    translator.body.append(tex2mathml(node.astext(), node.tagname == "math_block"))
    raise SkipNode


def setup(app: Sphinx) -> None:
    """Formulae without a network; bars in a docstring are bars."""
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))

    def plain(app, what, name, thing, options, lines: list[str]) -> None:
        if name.startswith("ltgate"):
            lines[:] = [re.sub(r"(``.*?``)|\|", lambda m: m[1] or r"\|", line) for line in lines]

    app.connect("autodoc-process-docstring", plain)


shutil.rmtree(MADE, ignore_errors=True)
MADE.mkdir()
for make in (parameters, results, modules):
    make()
