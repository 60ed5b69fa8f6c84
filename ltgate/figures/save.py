"""Figures and tables on disk: two formats each, whole or absent, the same bytes every time."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ltgate.figures import style
from ltgate.files import atomic

# Neither time nor library version, so that the same figure is the same file.
_METADATA = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}


def save_figure(figure: Figure, folder: str | Path, name: str) -> Figure:
    """Write ``folder/name.pdf`` and ``folder/name.png`` (150 dots an inch); return the figure.

    As a notebook cell's last line it saves and shows.
    """
    for suffix, metadata in _METADATA.items():
        with style.context(), atomic(Path(folder) / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, dpi=150, metadata=metadata)
    return figure


def save_table(frame: pd.DataFrame, folder: str | Path, name: str) -> pd.DataFrame:
    """Write ``folder/name.csv`` (10 digits) and ``folder/name.md`` (rounded); return ``show``."""
    with atomic(Path(folder) / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")
    with atomic(Path(folder) / f"{name}.md") as temporary:
        temporary.write_text(_markdown(show(frame)), encoding="utf-8", newline="\n")
    return show(frame)


def show(frame: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """The table as printed: numbers as text, ``digits`` decimals (none from 1000), gaps empty."""

    def text(value: object) -> str:
        if pd.isna(value):
            return ""
        if not isinstance(value, float):
            return str(value)
        if abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no -0.000

    return frame.apply(lambda column: column.astype(object).map(text)).reset_index(drop=True)


def _markdown(frame: pd.DataFrame) -> str:
    lines = [list(map(str, frame)), ["---"] * frame.shape[1], *frame.to_numpy().tolist()]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "".join("| " + " | ".join(line) + " |\n" for line in cells)
