"""The ledger of findings: ``figures/findings.yaml`` as the page ``docs/findings.md``.

A number in it is a reference to a cell of a committed table, so that it cannot drift.
"""

import re

import yaml

from ltgate import files, paths
from ltgate.errors import UserError

START, END = "<!-- findings -->\n", "<!-- end -->"  # of the sections in docs/findings.md
_REFERENCE = re.compile(r"\{(?P<table>[\w/]+): (?P<where>.+?) -> (?P<column>[^}]+?)\}")
_UNITS = {
    " %": lambda value: f"{100 * value:.2f} %",
    " points": lambda value: f"{100 * value:.2f} points",
    " times": lambda value: f"{1 / value:.1f}",
}


def write() -> None:
    """Bring ``docs/findings.md`` up to date, where there is one."""
    page = paths.published() / "docs" / "findings.md"
    files.replace_between(page, START, END, markdown())


def markdown() -> str:
    """A section for every finding."""
    file = paths.published() / "figures" / "findings.yaml"
    parts = []
    for entry in yaml.safe_load(file.read_text(encoding="utf-8")):
        parts += [
            f"## {entry['finding']}",
            f"**{entry['verdict']}** (claim: {entry['whose']}) · `{entry['command']}`",
            filled(entry["evidence"]),
            f"*Tried, failed, missing:* {filled(entry['tried'])}",
        ]
    return "\n\n".join(parts) + "\n"


def filled(text: str) -> str:
    """``text`` with its references ``{run/table: column=value, ... -> column unit}`` resolved."""
    return _REFERENCE.sub(lambda found: _cell(**found.groupdict()), text)


def _cell(table: str, where: str, column: str) -> str:
    from ltgate.figures.save import read_table  # here, because it loads matplotlib

    frame = read_table(paths.published() / "figures" / f"{table}.csv")
    for name, value in re.findall(r"([\w]+)=((?:[^,=]|,(?! \w+=))+)", where):
        frame = frame[frame[name].astype(str) == value]
    if len(frame) != 1:
        raise UserError(f"{table}: {where}: {len(frame)} rows; needed is one")
    for unit, shown in _UNITS.items():
        if column.endswith(unit) and column not in frame:
            return shown(float(frame[column.removesuffix(unit)].iloc[0]))
    value = frame[column].iloc[0]
    return f"{value:.2g}" if isinstance(value, float) else str(value)
