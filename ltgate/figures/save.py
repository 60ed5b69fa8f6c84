"""Figures and tables as a reader sees them, and on disk: whole or absent, always the same bytes."""

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from ltgate.errors import UserError
from ltgate.figures import style
from ltgate.files import atomic

# Neither time nor library version, so that the same figure is the same file.
_METADATA = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}


class Table(pd.DataFrame):
    """A table of text that a notebook shows whole, at a laptop's width where its names can break.

    Columns of words are on the left, of numbers on the right; colours are the notebook's own.
    """

    @property
    def _constructor(self) -> type["Table"]:
        return Table

    def html(self) -> str:
        sides = ["left" if _words(self.iloc[:, i]) else "right" for i in range(self.shape[1])]
        body = "\n".join(_row("td", line, sides) for line in self.to_numpy())
        head = f"<thead>\n{_row('th', self, sides)}\n</thead>"
        return f"<table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table>"

    _repr_html_ = html

    def __repr__(self) -> str:
        return self.to_string(index=False)

    def markdown(self) -> str:
        lines = [list(map(str, self)), ["---"] * self.shape[1], *self.to_numpy().tolist()]
        cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
        return "".join("| " + " | ".join(line) + " |\n" for line in cells)


def show(frame: pd.DataFrame, digits: int = 3) -> Table:
    """The table as printed: numbers as text, ``digits`` decimals (none from 1000), gaps empty."""

    def text(value: object) -> str:
        if pd.isna(value):
            return ""
        if not isinstance(value, float):
            return str(value)
        if abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no -0.000

    return Table(frame.apply(lambda column: column.astype(object).map(text)).reset_index(drop=True))


def save_figure(figure: style.Figure, folder: str | Path, name: str) -> style.Figure:
    """Write ``folder/name.pdf`` and ``folder/name.png`` (150 dots an inch); return the figure.

    One with moments is an animation too: ``folder/name.gif``, ten pictures a second. As a notebook
    cell's last line it saves and shows.
    """
    _refuse_link(folder)
    for suffix, metadata in _METADATA.items():
        with style.context(), atomic(Path(folder) / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, dpi=150, metadata=metadata)
    if moments := getattr(figure, "moments", ()):
        with style.context(), atomic(Path(folder) / f"{name}.gif") as temporary:
            first, *others = _pictures(figure, moments)
            first.save(temporary, "gif", save_all=True, append_images=others, duration=100, loop=0)
    return figure


def _pictures(figure: style.Figure, moments: Sequence[Callable[[], None]]) -> list[Image.Image]:
    """A picture a moment, 110 dots an inch; what stands still is drawn once, only lines move."""
    lines, dpi, pictures = [line for axis in figure.axes for line in axis.lines], figure.dpi, []
    figure.set_dpi(110)
    for line in lines:
        line.set_animated(True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for moment in moments:
        moment()
        canvas.restore_region(still)
        for line in lines:
            line.axes.draw_artist(line)
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    for line in lines:
        line.set_animated(False)
    figure.set_dpi(dpi)
    return pictures


def read_table(path: str | Path) -> pd.DataFrame:
    """What :func:`save_table` wrote as CSV; a name may be ``NA``, only an empty cell is a gap."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def save_table(frame: pd.DataFrame, folder: str | Path, name: str) -> Table:
    """Write ``folder/name.csv`` (10 digits) and ``folder/name.md`` (rounded); return ``show``."""
    _refuse_link(folder)
    with atomic(Path(folder) / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")
    shown = show(frame)
    with atomic(Path(folder) / f"{name}.md") as temporary:
        temporary.write_text(shown.markdown(), encoding="utf-8", newline="\n")
    return shown


def _refuse_link(folder: str | Path) -> None:
    if Path(folder).is_symlink():
        raise UserError(f"{folder}: is a link to {Path(folder).resolve()}, which is left alone")


def _words(column: pd.Series) -> bool:
    return any(re.match(r"[^\W\d]", str(cell)) for cell in column)


def _row(tag: str, cells: object, sides: list[str]) -> str:
    """A row of a table; names may break after an underscore."""
    texts = (html.escape(str(cell)).replace("_", "_<wbr>") for cell in cells)
    pairs = zip(texts, sides, strict=True)
    text = "".join(f'<{tag} style="text-align: {side}">{cell}</{tag}>' for cell, side in pairs)
    return f"<tr>{text}</tr>"
