"""Runs the numbered notebooks with parameter files, and only what has to be run again.

What was run, where and for how long is kept in ``run.json`` of the run's folder.
"""

import contextlib
import datetime
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltgate import files, paths, provenance
from ltgate.errors import UserError
from ltgate.parameter_files import parse
from ltgate.params import Params
from ltgate.runner import run_record
from ltgate.runner.claims import duration
from ltgate.runner.jupyter import run_notebook, this_kernel
from ltgate.runner.plan import (
    FORCED,
    Step,
    announce,
    image_files,
    inputs,
    plan,
    select,
)
from ltgate.runner.run_record import Record


def run(
    parameter_files: list[str],
    only: str = "",
    force: bool = False,
    overrides: dict[str, Any] | None = None,
    out: str = "",
) -> None:
    """Run the notebooks once per parameter file.

    ``only``: numbers of notebooks, comma-separated ('' = all). ``force``: run also what has not
    changed, and make its results anew. ``overrides``: parameters that win over every file. ``out``:
    folder for ``runs/`` and ``figures/`` (data stay where they are).

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
        plans = {path: plan(params, notebooks, force) for path, params in experiments.items()}
        for path, params in experiments.items():
            announce(path, params, plans[path])
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
    """Delete the folder of run ``name`` (never its figures); return its path."""
    folder = paths.run(Params(name=name).name)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such run")
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link to {folder.resolve()}; only a run's own folder goes")
    with _hold(folder):
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


def _execute(path: str, params: Params, steps: list[Step]) -> None:
    folder, earlier = paths.run(params.name), run_record.read(params.name)
    if not any(step.reason for step in steps):
        print(f"{params.name}: nothing to do", flush=True)
        return
    made_of = {"learning_code": provenance.learning_code(), "images": image_files(params)}
    changed = [name for name, now in made_of.items() if earlier.get(name) not in (None, now)]
    if changed and _set_aside(folder, ["results", "checkpoints", "grid"]):
        told = " and the ".join(changed).replace("_", " ") + (" has", " have")["images" in changed]
        print(f"the {told} changed: older results now lie in {folder / 'previous'}")
    told = {"file": path, **made_of, "notebooks": earlier.get("notebooks", {})}
    record = {**earlier, **provenance.describe(params), **told}
    with this_kernel(params):
        for number, step in enumerate(steps, 1):
            state = "unchanged, skipped"
            if step.reason:
                state = f"done in {duration(_execute_step(params, step, record))}"
            print(f"[{number}/{len(steps)}] {step.name}  {state}", flush=True)


def _execute_step(params: Params, step: Step, record: Record) -> float:
    """Run a notebook and put that on ``record``; the seconds it took."""
    folder, entry = paths.run(params.name), record["notebooks"].setdefault(step.name, {})
    if step.reason == FORCED:
        _set_aside(folder, entry.get("made", []))
    # The new id makes every later notebook run again, even if this one is interrupted.
    entry.update(
        status="unfinished",
        id=uuid.uuid4().hex,
        inputs=inputs(params, step.notebook, step.parameters, record["notebooks"]),
        parameters=step.parameters,
        commit=record["commit"],
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    run_record.write(record)
    written, start = run_record.watch(params.name), time.monotonic()
    try:
        run_notebook(step.notebook, step.parameters, folder / "notebooks" / step.notebook.name)
        entry.update(status="done", seconds=round(time.monotonic() - start, 2))
    finally:
        made = written()
        if entry["status"] == "done":
            entry["megabytes"] = run_record.megabytes(made)
        _note_outputs(entry, list(made), params)
        run_record.write(record)
    return entry["seconds"]


def _note_outputs(entry: Record, written: list[Path], params: Params) -> None:
    """Add to ``entry`` what a notebook has written; what it finds and keeps remains its own.

    ``outputs``, relative to the root, are to stay: when one is gone, the notebook runs again.
    ``made``, relative to the run's folder, is what a forced run makes anew.
    """
    folder = paths.run(params.name)
    stay = (folder / "results", folder / "notebooks", paths.figures(params.name))
    outputs = {o for o in entry.get("outputs", []) if (paths.root() / o).exists()}
    made = {m for m in entry.get("made", []) if (folder / m).exists()}
    for path in written:
        if any(path.is_relative_to(parent) for parent in stay):
            outputs.add(str(path.relative_to(paths.root())))
        if any(path.is_relative_to(folder / kind) for kind in ("results", "checkpoints")):
            made.add("/".join(path.relative_to(folder).parts[:2]))
    entry.update(outputs=sorted(outputs), made=sorted(made))


def _set_aside(folder: Path, names: list[str]) -> list[str]:
    """Move files or folders of a run to its ``previous``, in place of what lies there.

    Returns those that were there.
    """
    found = [name for name in names if (folder / name).exists()]
    for name in found:
        source, target = folder / name, folder / "previous" / name
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    return found


@contextlib.contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Keep other runs out of ``folder`` for the block; a dead process's hold does not count."""
    path = folder / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.lock(path, wait=False))
        except BlockingIOError:
            who = files.holder(path)
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
