"""Figures and tables on disk: two formats each, whole or absent, the same bytes every time."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ltgate.errors import UserError
from ltgate.figures import style
from ltgate.figures.display import Table, show
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
    _refuse_link(folder)
    for suffix, metadata in _METADATA.items():
        with style.context(), atomic(Path(folder) / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, dpi=150, metadata=metadata)
    return figure


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
