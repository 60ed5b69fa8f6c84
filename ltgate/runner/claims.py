"""What is claimed, and the files that show it: ``figures/claims.yaml``."""

import functools
from dataclasses import dataclass
from typing import Any

import yaml

from ltgate import paths
from ltgate.files import atomic
from ltgate.runner import expected

START, END = "<!-- claims -->\n", "<!-- end -->"  # of the table in ARTIFACT.md


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
        seconds, megabytes = expected.total(claim.run, claim.command.partition("--only ")[2])
        disk = "not measured" if megabytes is None else f"{megabytes:.0f} MB"
        files = ", ".join(f"`{claim.run}/{name}`" for name in claim.files)
        cells = [claim.id, claim.claim, claim.source, claim.holds, f"`{claim.command}`"]
        lines.append("| " + " | ".join([*cells, expected.duration(seconds), disk, files]) + " |")
    return "\n".join(lines) + "\n"


def refresh() -> None:
    """Write the table of claims into ARTIFACT.md anew, where there is one."""
    file = paths.params().parent / "ARTIFACT.md"
    if not file.exists():
        return
    text = file.read_text(encoding="utf-8")
    start, end = text.index(START) + len(START), text.index(END)
    with atomic(file) as temporary:
        temporary.write_text(text[:start] + markdown() + text[end:], encoding="utf-8")


@functools.cache
def _read() -> dict[str, Any]:
    file = paths.published() / "figures" / "claims.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))
