"""What is claimed, what shows it and what that costs: ``claims.yaml`` and ``expected.csv``."""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ltgate import files, paths
from ltgate.errors import UserError
from ltgate.runner import findings, run_record

START, END = "<!-- claims -->\n", "<!-- end -->"  # of the table in ARTIFACT.md

Cost = tuple[float | None, float | None]  # seconds, megabytes; None: not measured


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
    """All claims of ``figures/claims.yaml``, or those shown by ``figures/<run>``."""
    found = [Claim(**entry) for entry in _read()["claims"]]
    return [claim for claim in found if run in ("", claim.run)]


def tables() -> dict[str, str]:
    """What each kind of table shows: the beginning of its name -> its caption."""
    return _read()["tables"]


def markdown() -> str:
    """The table of all claims, as ARTIFACT.md has it."""
    names = ["id", "claim", "whose", "holds", "command", "time", "disk", "evidence"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for claim in claims():
        seconds, megabytes = expected(claim.run, claim.command.partition("--only ")[2])
        disk = "not measured" if megabytes is None else f"{megabytes:.0f} MB"
        files = ", ".join(f"`{claim.run}/{name}`" for name in claim.files)
        cells = [claim.id, claim.claim, claim.source, claim.holds, f"`{claim.command}`"]
        lines.append("| " + " | ".join([*cells, duration(seconds), disk, files]) + " |")
    return "\n".join(lines) + "\n"


def record(name: str) -> Path:
    """Copy what run ``name`` cost into ``params/expected.csv`` and ARTIFACT.md's table.

    The page of findings is brought up to date with the tables that there are now.
    """
    file = paths.params() / "expected.csv"
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
    files.replace_between(paths.params().parent / "ARTIFACT.md", START, END, markdown())
    findings.write()
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


def expected(name: str, notebooks: str = "") -> Cost:
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
def _read() -> dict[str, Any]:
    file = paths.published() / "figures" / "claims.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))
