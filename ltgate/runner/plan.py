"""Which notebooks a run has to run, what each is passed, and what that will cost.

A notebook is run again when its source, the library, a parameter it is passed, the image files it
names or an earlier notebook's run has changed since its last success, or when an output is gone.
"""

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltgate import paths, provenance
from ltgate.errors import UserError
from ltgate.files import digest
from ltgate.runner import claims, run_record
from ltgate.runner.claims import duration
from ltgate.runner.run_record import Record

if TYPE_CHECKING:
    from ltgate.params import Params

FORCED = "forced"


@dataclass(frozen=True)
class Step:
    """One notebook of a run: what it is passed, and why it runs ('' = nothing has changed)."""

    notebook: Path
    parameters: dict[str, Any]
    reason: str
    seconds: float | None  # expected, None = never measured
    megabytes: float | None
    basis: str  # what the expectation rests on

    @property
    def name(self) -> str:
        """The notebook's file name without its suffix."""
        return self.notebook.stem


def select(only: str = "") -> list[Path]:
    """The numbered notebooks, all or those whose comma-separated numbers are given."""
    found = {p.name[:2]: p for p in sorted(paths.notebooks().glob("[0-9][0-9]_*.ipynb"))}
    if not found:
        raise UserError(f"{paths.notebooks()}: holds no numbered notebooks")
    if not only:
        return list(found.values())
    wanted = [number.strip().zfill(2) for number in only.split(",")]
    for number in wanted:
        if number not in found:
            raise UserError(f"--only {only}: no notebook {number!r}; there are {', '.join(found)}")
    return [found[number] for number in sorted(set(wanted))]


def title(notebook: Path) -> str:
    """The notebook's first Markdown heading."""
    text = "\n".join(c["source"] for c in _cells(notebook) if c["cell_type"] == "markdown")
    heading = re.search(r"^#+ *(.+)", text, re.MULTILINE)
    return heading[1].strip() if heading else ""


def plan(params: "Params", notebooks: list[Path], force: bool = False) -> list[Step]:
    """Which notebooks have to run. Each is passed the name, and what differs from its default."""
    record = run_record.read(params.name)
    done = record.get("notebooks", {})
    values, defaults = params.model_dump(), type(params)().model_dump()
    passed = {k: v for k, v in values.items() if k == "name" or v != defaults[k]}
    steps: list[Step] = []
    for notebook in notebooks:
        entry = done.get(notebook.stem, {})
        if force:
            reason = FORCED
        elif any(step.reason for step in steps):
            reason = "an earlier notebook runs"
        else:
            reason = _reason(params, notebook, passed, done)
        seconds, megabytes, basis = entry.get("seconds"), entry.get("megabytes"), "last time"
        if seconds is None:
            seconds, megabytes = claims.expected(params.name, notebook.stem)
            basis = "".join(f"on {r['machine']}" for r in claims.costs(params.name, notebook.stem))
        steps.append(Step(notebook, passed, reason, seconds, megabytes, basis))
    return steps


def _reason(params: "Params", notebook: Path, passed: dict[str, Any], done: Record) -> str:
    entry = done.get(notebook.stem)
    if entry is None:
        return "not run yet"
    before = entry.get("inputs", {})
    for kind, fingerprint in inputs(params, notebook, passed, done).items():
        if before.get(kind) != fingerprint:
            return f"{kind} changed"
    if entry.get("status") != "done":
        return "did not finish"
    for output in entry.get("outputs", []):
        if not (paths.root() / output).exists():
            return f"{output} is gone"
    return ""


def inputs(
    params: "Params", notebook: Path, passed: dict[str, Any], done: Record
) -> dict[str, str]:
    """Fingerprints of everything a notebook's result depends on, by kind."""
    earlier = [p.stem for p in select() if p.name < notebook.name]
    return {
        "notebook": digest([[c["cell_type"], c["source"]] for c in _cells(notebook)]),
        "learning code": provenance.learning_code(),
        "library": digest(provenance.sources()),
        "parameters": digest(passed),
        "images": image_files(params),
        "earlier results": digest([done.get(stem, {}).get("id") for stem in earlier]),
    }


def image_files(params: "Params") -> str:
    """Fingerprint of a user's own image files by place, size and times; others never change.

    The time of a change of the file itself (ctime) cannot be set by whoever replaces it.
    """
    from ltgate.data import sources

    if ":" not in params.source:
        return digest([])
    source = sources.source(params.source)
    found = [path for pool in sources.FILES for path in source.files(pool)]
    stats = [(str(path), path.stat()) for path in found]
    return digest([[p, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for p, s in stats])


def announce(path: str, params: "Params", steps: list[Step]) -> None:
    """Say what will run, for how long and on how much disk."""
    print(f"{params.name}  ({path}, configuration {params.hash})  ->  {paths.run(params.name)}")
    width = max(len(step.name) for step in steps)
    for step in steps:
        if not step.reason:
            note = "unchanged, will be skipped"
        elif step.seconds is None:
            note = f"time unknown, never measured ({step.reason})"
        else:
            note = f"about {duration(step.seconds)} as {step.basis} ({step.reason})"
        print(f"  {step.name:<{width}}  {note}")
    due = [step for step in steps if step.reason]
    measured = [step for step in due if step.seconds is not None]
    free = shutil.disk_usage(paths.run(params.name)).free / 1e6
    if measured:
        megabytes = sum(step.megabytes or 0 for step in measured)
        more = f", and {len(due) - len(measured)} of unknown time" * (len(measured) < len(due))
        together = duration(sum(step.seconds or 0 for step in measured))
        print(f"  expected: {together}{more}; {megabytes:.0f} MB of disk, {free:.0f} MB free")
        if megabytes > free:
            raise UserError(
                f"{paths.run(params.name)}: about {megabytes:.0f} MB are needed and {free:.0f} MB "
                "are free; make room, or choose another folder with --out"
            )
    sys.stdout.flush()


def _cells(notebook: Path) -> list[dict[str, Any]]:
    """Cells of a notebook of format 4, sources as text; read as JSON: importing nbformat takes 2 s.

    Raises `UserError` for any other file.
    """
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        if content["nbformat"] != 4:
            raise ValueError
        return [{**cell, "source": "".join(cell["source"])} for cell in content["cells"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        raise UserError(f"{notebook}: not a readable notebook of format 4 ({kind})") from None
