"""Outcomes of the soaks: one line a case in ``outcomes.csv``, and the table of tests/README.md."""

import csv
import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ltgate import files

FOLDER = Path(__file__).resolve().parent
OUTCOMES, README = FOLDER / "outcomes.csv", FOLDER.parent / "README.md"
COLUMNS = ("case", "tried", "outcome", "seconds", "date", "command")
RECORDING = True  # else outcomes are only printed
BEGIN, END = "<!-- soak -->", "<!-- end -->"


class Failed(AssertionError):
    """A case that did not end as it must."""


@contextmanager
def case(name: str, command: str) -> Iterator[dict[str, str]]:
    """A case: the block fills in ``tried`` and ``outcome``; what it raises is its outcome too."""
    row = {"case": name, "command": command, "tried": "", "outcome": ""}
    began = time.monotonic()
    try:
        yield row
    except BaseException as error:
        text = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        row["outcome"] = f"FAILED: {text}" + (f" ({row['outcome']})" if row["outcome"] else "")
        raise
    finally:
        row["seconds"] = f"{time.monotonic() - began:.0f}"
        row["date"] = datetime.date.today().isoformat()
        if RECORDING:
            _add(row)
        print(f"{name}: {row['tried']}; {row['outcome']} ({row['seconds']} s)", flush=True)


def rows() -> list[dict[str, str]]:
    """All outcomes so far, by case."""
    if not OUTCOMES.exists():
        return []
    with open(OUTCOMES, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table() -> str:
    """The outcomes as Markdown."""
    lines = ["| case | tried | outcome | s | repeat with |", "| --- | --- | --- | --- | --- |"]
    for row in rows():
        cells = (row["case"], row["tried"], row["outcome"], row["seconds"], f"`{row['command']}`")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _add(row: dict[str, str]) -> None:
    with files.lock(OUTCOMES.with_suffix(".lock")):
        kept = {other["case"]: other for other in rows()} | {row["case"]: row}
        with files.atomic(OUTCOMES) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept[name] for name in sorted(kept))
        write_table()


def write_table() -> None:
    """Bring the table of tests/README.md up to date."""
    files.replace_between(README, BEGIN, END, f"\n{table()}\n")
    OUTCOMES.with_suffix(".lock").unlink(missing_ok=True)
