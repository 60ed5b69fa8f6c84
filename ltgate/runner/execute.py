"""Runs the numbered notebooks with parameter files, and only what has to be run again.

A notebook is run again when its source, the library, a parameter it is passed, the content of the
user's image files or the run of a notebook that it builds on has changed since its last success, or
when an output is not as it was made (:mod:`ltgate.done`). What was run, where and for how long is
kept in ``run.json`` of the run's folder.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ltgate import done, files, paths, provenance
from ltgate.errors import UserError
from ltgate.files import digest
from ltgate.parameter_files import parse
from ltgate.params import Params
from ltgate.runner import claims, lanes, run_record
from ltgate.runner.claims import duration
from ltgate.runner.jupyter import cells, run_notebook, select, this_kernel
from ltgate.runner.run_record import Record


class Step(NamedTuple):
    """One notebook of a run: why it runs ('' = nothing has changed), and what that costs."""

    notebook: Path
    reason: str
    seconds: float | None  # as last time, else as on record; None = never measured
    megabytes: float | None


def run(
    parameter_files: list[str],
    only: str = "",
    overrides: dict[str, Any] | None = None,
    out: str = "",
) -> None:
    """Run the notebooks once per parameter file.

    ``only``: numbers of notebooks, comma-separated ('' = all). ``overrides``: parameters that win
    over every file. ``out``: folder for ``runs/`` and ``figures/`` (data stay where they are).

    Raises `UserError` before any work when something is wrong with the request, `NotebookFailed`
    at the first notebook that fails.
    """
    experiments = {path: Params.load(path, **(overrides or {})) for path in parameter_files}
    folders = [params.name for params in experiments.values()]
    for name in folders:
        if folders.count(name) > 1:
            raise UserError(f"name = {name!r}: two runs would share one folder; names must differ")
    notebooks = select(only)
    with _output_root(out), contextlib.ExitStack() as locks:
        for params in experiments.values():
            check(params)
            locks.enter_context(_hold(paths.run(params.name)))
        plans = {path: plan(params, notebooks) for path, params in experiments.items()}
        for path, params in experiments.items():
            _announce(path, params, plans[path])
        for path, params in experiments.items():
            _execute(path, params, plans[path])


def check(params: Params) -> None:
    """Tell before any work what is wrong with folders, device or images; opens no test file."""
    for variable in ("LTGATE_HOME", "LTGATE_DATA_CACHE"):
        place = os.environ.get(variable)
        if place and Path(place).exists() and not Path(place).is_dir():
            raise UserError(f"{variable} = {place!r}: is no folder")
    if params.device not in ("auto", "cpu"):
        from ltgate import backends  # here, because it loads PyTorch

        backends.device(params.device)
    if params.source != "digits":
        from ltgate.data import open_task, sources

        for pool in sources.FILES:
            sources.of(params).files(pool)
        if params.source != "mnist":
            for task in params.tasks:
                open_task(params, task, "train", params.seeds[0])


def clean(name: str) -> Path:
    """Delete the folder of run ``name`` (never its figures); return its path.

    Raises `UserError` while a run, a grid or a trial works in it: each holds a lock there.
    """
    folder = paths.run(Params(name=name).name)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such run")
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link to {folder.resolve()}; only a run's own folder goes")
    with _hold(folder):
        for path in {*folder.rglob("*.lock")} - {folder / ".lock"}:
            with _hold(folder, path.relative_to(folder)):
                pass
        shutil.rmtree(folder)
    return folder


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """Parameters from 'name=value' texts, each value read as YAML."""
    overrides = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UserError(f"--set {setting}: must be name=value")
        try:
            overrides[name.strip()] = parse(value)
        except ValueError:
            raise UserError(f"--set {setting}: the value is not valid YAML") from None
    return overrides


def plan(params: Params, notebooks: list[Path]) -> list[Step]:
    """Which notebooks have to run."""
    known = run_record.read(params.name).get("notebooks", {})
    steps: list[Step] = []
    for notebook in notebooks:
        entry, reason = known.get(notebook.stem, {}), "an earlier notebook runs"
        before = lanes.earlier(notebook)
        if not any(step.reason for step in steps if step.notebook in before):
            reason = _reason(params, notebook, known)
        cost = entry.get("seconds"), entry.get("megabytes")
        if "seconds" not in entry:
            cost = claims.expected(params.name, notebook.stem)
        steps.append(Step(notebook, reason, *cost))
    return steps


def _reason(params: Params, notebook: Path, known: Record) -> str:
    entry = known.get(notebook.stem)
    if entry is None:
        return "not run yet"
    before = entry.get("inputs", {})
    for kind, fingerprint in _inputs(params, notebook, known).items():
        if before.get(kind) != fingerprint:
            return f"{kind} changed"
    if entry.get("status") != "done":
        return "did not finish"
    output = done.differing(entry["outputs"], paths.root())
    return f"{output} is not as it was made" if output else ""


def _passed(params: Params) -> dict[str, Any]:
    """What a notebook is passed: the name, and what differs from its default."""
    defaults = Params().model_dump()
    return {k: v for k, v in params.model_dump().items() if k == "name" or v != defaults[k]}


def _inputs(params: Params, notebook: Path, known: Record) -> dict[str, str]:
    """Fingerprints of everything a notebook's result depends on, by kind.

    Of a user's test images this process takes the hash, and nothing else.
    """
    from ltgate.data.sources import own_files

    earlier = [p.stem for p in lanes.earlier(notebook)]
    return {
        "notebook": digest([[c["cell_type"], c["source"]] for c in cells(notebook)]),
        "library": digest(done.sources()),
        "parameters": digest(_passed(params)),
        "images": digest(own_files(params, "train", "test")),
        "earlier results": digest([known.get(stem, {}).get("id") for stem in earlier]),
    }


def _announce(path: str, params: Params, steps: list[Step]) -> None:
    """Say what will run, for how long and on how much disk; refuse what there is no room for."""
    folder = paths.run(params.name)
    print(f"{params.name}  ({path}, configuration {params.hash})  ->  {folder}")
    width = max(len(step.notebook.stem) for step in steps)
    for step in steps:
        note = "unchanged, will be skipped"
        if step.reason:
            measured = step.seconds is not None
            cost = f"about {duration(step.seconds)}" if measured else "time unknown"
            note = f"{cost} ({step.reason})"
        print(f"  {step.notebook.stem:<{width}}  {note}")
    measured = [step for step in steps if step.reason and step.seconds is not None]
    if measured:
        alone = {step.notebook: step.seconds or 0 for step in measured}
        at_once = lanes.number(params.threads)
        seconds = lanes.expected(alone, at_once)
        less = seconds < sum(alone.values())
        beside = f", up to {at_once} notebooks side by side" if less else ""
        megabytes = sum(step.megabytes or 0 for step in measured)
        free = shutil.disk_usage(folder).free / 1e6
        room = f"{megabytes:.0f} MB of disk, {free:.0f} MB free"
        print(f"  expected: {duration(seconds)}{beside}; {room}")
        if megabytes > free:
            raise UserError(
                f"{folder}: about {megabytes:.0f} MB are needed and {free:.0f} MB are free; make "
                "room, or choose another folder with --out"
            )


def _execute(path: str, params: Params, steps: list[Step]) -> None:
    if not any(step.reason for step in steps):
        print(f"{params.name}: nothing to do", flush=True)
        return
    earlier = run_record.read(params.name)
    told = {"file": path, "notebooks": earlier.get("notebooks", {})}
    books = _Books(params, {**earlier, **provenance.describe(params), **told})
    lines = {
        step.notebook: f"[{place}/{len(steps)}] {step.notebook.stem}  "
        for place, step in enumerate(steps, 1)
    }
    for step in steps:
        if not step.reason:
            print(f"{lines[step.notebook]}unchanged, skipped", flush=True)
    todo = [step.notebook for step in steps if step.reason]
    with this_kernel(params), books:
        ended = lanes.run(todo, lanes.number(params.threads), books.begin, books.work)
        with contextlib.closing(ended):
            for notebook, seconds in ended:
                books.end(notebook, seconds)
                print(f"{lines[notebook]}done in {duration(seconds)}", flush=True)


class _Books:
    """Keeps the record of a run; notebooks that are open at the end of the block did not finish.

    A notebook's ``outputs``, relative to the root, are what was written while it ran, also by one
    beside it, and what it found and kept.
    """

    def __init__(self, params: Params, record: Record) -> None:
        self.params = params
        self.record = record
        self.open: dict[Path, tuple[Callable[[], dict[Path, float]], int]] = {}
        self.ended: list[Record] = []
        self.counted: set[Path] = set()  # in some notebook's megabytes

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for notebook in list(self.open):
            self.end(notebook)

    def begin(self, notebook: Path) -> None:
        """Put on record that it runs."""
        known = self.record["notebooks"]
        # The new id makes every later notebook run again, even if this one is interrupted.
        known.setdefault(notebook.stem, {}).update(
            status="unfinished",
            id=uuid.uuid4().hex,
            inputs=_inputs(self.params, notebook, known),
            parameters=_passed(self.params),
            commit=self.record["commit"],
            started=run_record.now(),
        )
        run_record.write(self.record)
        self.open[notebook] = run_record.watch(self.params.name), len(self.ended)

    def work(self, notebook: Path) -> None:
        """Run it."""
        output = paths.run(self.params.name) / "notebooks" / notebook.name
        run_notebook(notebook, _passed(self.params), output)

    def end(self, notebook: Path, seconds: float | None = None) -> None:
        """Put on record what it has written, and ``seconds`` if it is done."""
        written, since = self.open.pop(notebook)
        entry, made = self.record["notebooks"][notebook.stem], written()
        folder = paths.run(self.params.name)
        stay = (folder / "results", folder / "notebooks", paths.figures(self.params.name))
        kept = [str(p.relative_to(paths.root())) for p in made if any(map(p.is_relative_to, stay))]
        entry["outputs"] = _contents({*entry.get("outputs", ()), *kept})
        for other in self.ended[since:]:  # what was not whole yet when they ended
            other["outputs"] = _contents(other["outputs"])
        self.ended.append(entry)
        if seconds is not None:
            mine = sum(size for path, size in made.items() if path not in self.counted)
            self.counted.update(made)
            entry.update(status="done", seconds=seconds, megabytes=round(mine, 6))
        run_record.write(self.record)


def _contents(names: Iterable[str]) -> dict[str, str]:
    """What the files of these names contain now (:func:`ltgate.done.content`)."""
    there = {name: paths.root() / name for name in sorted(names)}
    return {name: done.content(path) for name, path in there.items() if path.is_file()}


@contextlib.contextmanager
def _hold(folder: Path, lock: str | Path = ".lock") -> Iterator[None]:
    """Keep others out of ``folder`` for the block; a dead process's hold does not count."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.lock(folder / lock, wait=False))
        except BlockingIOError:
            who = files.holder(folder / lock)
            raise UserError(f"{folder}: in use by {who}; wait for it, or end it") from None
        yield


@contextlib.contextmanager
def _output_root(out: str) -> Iterator[None]:
    """Put runs and figures under ``out`` for the block, and leave data where they are."""
    if not out:
        yield
        return
    home = Path(out).expanduser().resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot make this folder ({error.strerror})") from None
    inputs = os.environ.get("LTGATE_INPUTS") or str(paths.root())
    kept = {"LTGATE_DATA_CACHE": str(paths.data()), "LTGATE_INPUTS": inputs}
    with paths.environment(LTGATE_HOME=str(home), **kept):
        yield
