"""Tables as a reader sees them: numbers as short text, every row, no index."""

import html
import re

import pandas as pd


class Table(pd.DataFrame):
    """A table of text that a notebook shows whole, at a laptop's width where its names can break.

    Columns of words are on the left, of numbers on the right; colours are the notebook's own.
    """

    @property
    def _constructor(self) -> type["Table"]:
        return Table

    def html(self) -> str:
        sides = ["left" if _words(self.iloc[:, i]) else "right" for i in range(self.shape[1])]
        names = [_breakable(name) for name in self]
        rows = [[_breakable(cell) for cell in line] for line in self.to_numpy()]
        body = "\n".join(_row("td", row, sides) for row in rows)
        head = f"<thead>\n{_row('th', names, sides)}\n</thead>"
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


def _words(column: pd.Series) -> bool:
    return any(re.match(r"[^\W\d]", str(cell)) for cell in column)


def _breakable(text: object) -> str:
    return html.escape(str(text)).replace("_", "_<wbr>")


def _row(tag: str, cells: list[str], sides: list[str]) -> str:
    pairs = zip(cells, sides, strict=True)
    text = "".join(f'<{tag} style="text-align: {side}">{cell}</{tag}>' for cell, side in pairs)
    return f"<tr>{text}</tr>"
