"""What the runs of the parameter files cost, as measured: ``params/expected.csv``."""

import csv
from pathlib import Path

from ltgate import files, paths
from ltgate.errors import UserError
from ltgate.runner import run_record


def record(name: str) -> Path:
    """Copy the measured time and disk space of run ``name`` into ``params/expected.csv``."""
    if paths.installed():
        raise UserError(f"{_file()}: is a file of the installed package; record from a checkout")
    run = run_record.read(name)
    machine = run.get("machine", {})
    label = f"{machine.get('cpu')}, {machine.get('cores')} cores, GPU {machine.get('gpu')}"
    measured = [
        {"name": name, "notebook": notebook, "seconds": f"{entry['seconds']:.0f}",
         "megabytes": f"{entry['megabytes']:.1f}", "machine": label}
        for kind in ("notebooks", "commands")
        for notebook, entry in sorted(run.get(kind, {}).items())
        if "seconds" in entry
    ]  # fmt: skip
    if not measured:
        raise UserError(f"{paths.run(name)}: holds no finished run")
    rows = [row for row in _rows() if row["name"] != name] + measured
    with files.atomic(_file()) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(measured[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row["name"], row["notebook"])))
    return _file()


def _file() -> Path:
    return paths.params() / "expected.csv"


def _rows() -> list[dict[str, str]]:
    if not _file().exists():
        return []
    with open(_file(), newline="") as file:
        return list(csv.DictReader(file))


def lookup(name: str, notebook: str) -> tuple[float | None, float | None, str]:
    """Seconds and megabytes measured for a notebook of run ``name``, and on which machine."""
    for row in _rows():
        if row["name"] == name and row["notebook"] == notebook:
            return float(row["seconds"]), float(row["megabytes"]), f"on {row['machine']}"
    return None, None, ""


def total(name: str, notebooks: str = "") -> tuple[float | None, float | None]:
    """Seconds and megabytes of all that was measured of run ``name``; None where nothing was.

    ``notebooks``: count only those numbers, comma-separated.
    """
    wanted = tuple(number for number in notebooks.split(",") if number)
    rows = [r for r in _rows() if r["name"] == name and r["notebook"].startswith(wanted or "")]
    if not rows:
        return None, None
    return sum(float(r["seconds"]) for r in rows), sum(float(r["megabytes"]) for r in rows)
