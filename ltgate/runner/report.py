"""A run as one HTML page: claims, figures and tables with the command, time and disk of each."""

import base64
import re
from html import escape
from pathlib import Path

import nbformat
import pandas as pd

from ltgate import done, figures, files, paths
from ltgate.errors import UserError
from ltgate.params import Params
from ltgate.runner import claims, jupyter, run_record
from ltgate.runner.run_record import Record

LONGEST = 40  # rows of a table that are shown; the file has them all


def report(name: str) -> Path:
    """Write ``runs/<name>/report.html`` from ``run.json`` and ``figures/<name>``.

    Raises `UserError` where a product is not as the run made it (:mod:`ltgate.done`).
    """
    folder, record = paths.figures(Params(name=name).name), run_record.read(name)
    products = [*folder.glob("*.png"), *folder.glob("table_*.csv")]
    if not products:
        raise UserError(f"{folder}: there are no figures or tables of a run {name!r}")
    writers = {}
    for notebook, entry in record.get("notebooks", {}).items():
        outputs = entry.get("outputs", {})
        if not isinstance(outputs, dict):  # of an earlier version, without their content
            outputs = dict.fromkeys(outputs, "")
        if wrong := done.differing(outputs, paths.root()):
            raise UserError(f"{paths.root() / wrong}: is not as the run made it; run it again")
        writers |= {Path(output).name: notebook for output in outputs}
    groups: dict[str, list[Path]] = {}  # those that no notebook has made come last
    for path in sorted(products, key=lambda path: (writers.get(path.name, "~"), path.stem)):
        groups.setdefault(writers.get(path.name, ""), []).append(path)
    texts = [_head(name, record)]
    if found := claims.claims(name):
        rows = [(c.claim, c.source, c.holds, ", ".join(c.files)) for c in found]
        shown = pd.DataFrame(rows, columns=["claim", "whose", "holds", "shown by"])
        texts.append(f"## Claims\n\n{_table(shown)}")
    for notebook, made in groups.items():
        texts += [_source(name, notebook, record), *map(_product, made)]
    return page(paths.run(name) / "report.html", f"ltgate: {name}", texts)


def caption(name: str) -> str:
    """What a table or figure shows; of a figure, the first line of its producer's docstring.

    ``table_main_small`` is a ``table_main``, ``learning_curves_fast`` is by ``learning_curves``; an
    unknown one has ''.
    """
    drawn = {producer.__name__: producer.__doc__ or "" for producer in figures.FIGURES}
    known = claims.tables() | drawn
    found = max((begin for begin in known if name.startswith(begin)), default="", key=len)
    return known.get(found, "").split("\n")[0]


def page(file: str | Path, title: str, texts: list[str]) -> Path:
    """Write Markdown ``texts`` as an HTML page without scripts, which asks for no other file."""
    from nbconvert import HTMLExporter

    cells = [nbformat.v4.new_markdown_cell(text) for text in texts]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"title": title})
    body, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    body = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL)  # for mathematics, diagrams
    with files.atomic(file) as temporary:
        temporary.write_text(body, encoding="utf-8")
    return Path(file)


def _table(frame: pd.DataFrame) -> str:
    """A table as HTML that a Markdown text may hold."""
    with pd.option_context("display.max_colwidth", None):
        return frame.to_html(index=False, border=0, justify="left", na_rep="")


def _head(name: str, record: Record) -> str:
    if not record:
        return f"# {name}\n\nFigures and tables of `figures/{name}`; the run itself is not here."
    values = pd.DataFrame({"value": record["parameters"], "default": Params().model_dump()})
    changed = values.map(str).query("value != default").rename_axis("parameter").reset_index()
    told = escape(
        "- configuration: {hash}\n- seeds: {seeds}\n- version: {version}, commit {commit}\n"
        "- machine: {machine}\n- libraries: {libraries}".format(**record)
    )
    shown = _table(changed)
    return f"# {name}\n\n{told}\n\n## Parameters that are not the default\n\n{shown}"


def _source(name: str, notebook: str, record: Record) -> str:
    """Heading of what a notebook, or another command, has made: command, time, disk space."""
    if notebook:
        entry = record["notebooks"][notebook]
        command = f"python -m ltgate run {record['file']} --only {notebook[:2]}"
        title = jupyter.title(paths.notebooks() / f"{notebook}.ipynb")
        took = _cost("This time", entry.get("seconds"), entry.get("megabytes"))
    else:
        command = "; ".join(dict.fromkeys(claim.command for claim in claims.claims(name)))
        title, took = "Figures and tables", ""
    told = f"Regenerate: `{command}`. " if command else ""
    return f"## {title}\n\n{told}{took}{_cost('From scratch', *claims.expected(name, notebook))}"


def _cost(when: str, seconds: float | None, megabytes: float | None) -> str:
    written = "" if seconds is None else f", {megabytes or 0:.1f} MB written"
    return f"{when}: {claims.duration(seconds)}{written}. "


def _product(path: Path) -> str:
    told = caption(path.stem)
    head = f"**{escape(path.stem)}** {told} `figures/{path.parent.name}/{path.name}`"
    if path.suffix == ".png":
        data, alt = base64.b64encode(path.read_bytes()).decode(), escape(told, quote=True)
        source = f"data:image/png;base64,{data}"
        return f'{head}\n\n<img src="{source}" alt="{alt}" style="max-width: 100%">'
    frame = figures.read_table(path)
    more = f" The first {LONGEST} of {len(frame)} rows." * (len(frame) > LONGEST)
    return f"{head}{more}\n\n{figures.show(frame.head(LONGEST)).html()}"
