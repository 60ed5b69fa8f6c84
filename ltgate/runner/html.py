"""One self-contained HTML page from Markdown texts, tables and images, by nbconvert."""

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import nbformat
import pandas as pd

from ltgate.files import atomic


def table(frame: pd.DataFrame) -> str:
    """A table as HTML that a Markdown text may hold."""
    with pd.option_context("display.max_colwidth", None):
        return frame.to_html(index=False, border=0, justify="left", na_rep="")


def image(path: Path, caption: str = "") -> str:
    """A PNG file as HTML that a Markdown text may hold, its bytes included."""
    data = base64.b64encode(path.read_bytes()).decode()
    text = escape(caption, quote=True)
    return f'<img src="data:image/png;base64,{data}" alt="{text}" style="max-width: 100%">'


def write(path: Path, title: str, texts: Sequence[str]) -> Path:
    """Write the Markdown ``texts`` as the page ``path``; it has no script and asks for no file."""
    from nbconvert import HTMLExporter

    cells = [nbformat.v4.new_markdown_cell(text) for text in texts]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"title": title})
    body, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    body = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL)  # for mathematics, diagrams
    with atomic(path) as temporary:
        temporary.write_text(body, encoding="utf-8")
    return path
