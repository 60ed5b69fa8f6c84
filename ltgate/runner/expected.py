"""What the runs of the parameter files cost, as measured: ``params/expected.csv``."""

import csv
from pathlib import Path

from ltgate import files, paths
from ltgate.errors import UserError
from ltgate.runner import run_record

Cost = tuple[float | None, float | None]  # seconds, megabytes; None: not measured


def record(name: str) -> Path:
    """Copy the measured time and disk space of run ``name`` into ``params/expected.csv``."""
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
    rows = [row for row in _rows() if row["name"] != name] + measured
    with files.atomic(file) as temporary, open(temporary, "w", newline="") as opened:
        writer = csv.DictWriter(opened, list(measured[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row["name"], row["notebook"])))
    return file


def _rows(name: str = "", notebooks: str = "") -> list[dict[str, str]]:
    """Lines of the file, or those of a run and of notebooks with these beginnings."""
    file = paths.params() / "expected.csv"
    if not file.exists():
        return []
    begins = tuple(filter(None, notebooks.split(","))) or ""
    with open(file, newline="") as opened:
        found = list(csv.DictReader(opened))
    return [r for r in found if name in ("", r["name"]) and r["notebook"].startswith(begins)]


def lookup(name: str, notebook: str) -> tuple[float | None, float | None, str]:
    """Seconds and megabytes measured for a notebook of run ``name``, and on which machine."""
    machine = next((f"on {row['machine']}" for row in _rows(name, notebook)), "")
    return *total(name, notebook), machine


def total(name: str, notebooks: str = "") -> Cost:
    """Seconds and megabytes of all that was measured of run ``name``; None where nothing was.

    ``notebooks``: count only those that begin so, ``02,03``.
    """
    rows = _rows(name, notebooks)
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
