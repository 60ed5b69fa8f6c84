"""What is claimed and found, what shows it and what that costs.

``figures/claims.yaml`` is the table in ARTIFACT.md, ``figures/findings.yaml`` the page
``docs/findings.md``: a number in it is a reference to a cell of a committed table, so that it
cannot drift. ``params/expected.csv`` has the costs.
"""

import csv
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ltgate import files, paths
from ltgate.errors import UserError
from ltgate.runner import run_record

CLAIMS, FINDINGS, END = "<!-- claims -->\n", "<!-- findings -->\n", "<!-- end -->"  # of the pages
_REFERENCE = re.compile(r"\{(?P<table>[\w/]+): (?P<where>.+?) -> (?P<column>[^}]+?)\}")
_UNITS = {
    " %": lambda value: f"{100 * value:.2f} %",
    " points": lambda value: f"{100 * value:.2f} points",
    " times": lambda value: f"{1 / value:.1f}",
}


@dataclass(frozen=True)
class Claim:
    """One sentence, the command that regenerates its evidence, and whether it holds."""

    id: str
    claim: str
    source: str  # paper | artifact
    holds: str  # yes | partly | no
    command: str
    run: str
    files: list[str]


def claims(run: str = "") -> list[Claim]:
    """All claims, or those shown by ``figures/<run>``."""
    found = [Claim(**entry) for entry in _read("claims")["claims"]]
    return [claim for claim in found if run in ("", claim.run)]


def tables() -> dict[str, str]:
    """What each kind of table shows: the beginning of its name -> its caption."""
    return _read("claims")["tables"]


def markdown() -> str:
    """The table of all claims, as ARTIFACT.md has it."""
    names = ["id", "claim", "whose", "holds", "command", "time", "disk", "evidence"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for claim in claims():
        seconds, megabytes = expected(claim.run, claim.command.partition("--only ")[2])
        disk = "not measured" if megabytes is None else f"{megabytes:.0f} MB"
        shown = ", ".join(f"`{claim.run}/{name}`" for name in claim.files)
        cells = [claim.id, claim.claim, claim.source, claim.holds, f"`{claim.command}`"]
        lines.append("| " + " | ".join([*cells, duration(seconds), disk, shown]) + " |")
    return "\n".join(lines) + "\n"


def findings() -> str:
    """A section for every finding, as docs/findings.md has it."""
    parts = []
    for entry in _read("findings"):
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


def record(name: str) -> Path:
    """Copy what run ``name`` cost into ``params/expected.csv``; bring both pages up to date."""
    file, root = paths.params() / "expected.csv", paths.params().parent
    if paths.installed():
        raise UserError(f"{file}: is a file of the installed package; record from a checkout")
    run = run_record.read(name)
    machine = run.get("machine", {})
    label = f"{machine.get('cpu')}, {machine.get('cores')} cores, GPU {machine.get('gpu')}"
    measured = [
        {"name": name, "notebook": notebook, "seconds": f"{entry['seconds']:.0f}",
         "megabytes": f"{entry['megabytes']:.1f}", "machine": label}
        for kind in ("notebooks", "commands")
        for notebook, entry in run.get(kind, {}).items()
        if "seconds" in entry
    ]  # fmt: skip
    if not measured:
        raise UserError(f"{paths.run(name)}: holds no finished run")
    rows = [row for row in costs() if row["name"] != name] + measured
    with files.atomic(file) as temporary, open(temporary, "w", newline="") as opened:
        writer = csv.DictWriter(opened, list(measured[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row["name"], row["notebook"])))
    files.replace_between(root / "ARTIFACT.md", CLAIMS, END, markdown())
    files.replace_between(root / "docs" / "findings.md", FINDINGS, END, findings())
    return file


def costs(name: str = "", notebooks: str = "") -> list[dict[str, str]]:
    """Lines of ``params/expected.csv``, or those of a run, of notebooks that begin so (``02,03``).

    Columns: name, notebook (or command), seconds, megabytes, machine.
    """
    file = paths.params() / "expected.csv"
    if not file.exists():
        return []
    begins = tuple(filter(None, notebooks.split(","))) or ""
    with open(file, newline="") as opened:
        found = list(csv.DictReader(opened))
    return [r for r in found if name in ("", r["name"]) and r["notebook"].startswith(begins)]


def expected(name: str, notebooks: str = "") -> tuple[float | None, float | None]:
    """Seconds and megabytes of all that :func:`costs` has; None where it has nothing."""
    rows = costs(name, notebooks)
    if not rows:
        return None, None
    return sum(float(r["seconds"]) for r in rows), sum(float(r["megabytes"]) for r in rows)


def duration(seconds: float | None) -> str:
    """Seconds in words: ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``; None: ``not measured``."""
    if seconds is None:
        return "not measured"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


@functools.cache
def _read(name: str) -> Any:
    file = paths.published() / "figures" / f"{name}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))
