"""Runs the numbered notebooks with parameter files, and only what has to be run again.

What was run, where and for how long is kept in ``run.json`` of the run's folder.
"""

import contextlib
import datetime
import logging
import os
import re
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltgate import files, paths, provenance
from ltgate.errors import Failed, UserError
from ltgate.parameter_files import parse
from ltgate.params import Params
from ltgate.runner import run_record
from ltgate.runner.expected import duration
from ltgate.runner.jupyter import this_kernel
from ltgate.runner.plan import (
    FORCED,
    Step,
    announce,
    declared,
    inputs,
    literal,
    plan,
    select,
)
from ltgate.runner.run_record import Record


class NotebookFailed(Failed):
    """A notebook stopped with an error; the message is what to show the user."""


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
    names = {notebook: declared(notebook) for notebook in select(only)}
    with _output_root(out), contextlib.ExitStack() as locks:
        for params in experiments.values():
            check(params)
            locks.enter_context(_hold(paths.run(params.name)))
        plans = {}
        for path, params in experiments.items():
            plans[path] = plan(params, names, force)
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

        sources.locate(params.source, params.data_folder)
        if params.source != "mnist":
            for task in params.tasks:
                open_task(params, task, "train", params.seeds[0])


def clean(name: str) -> Path:
    """Delete the folder of run ``name`` (never its figures); return its path."""
    folder = paths.run(Params(name=name).name)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such run")
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
    folder = paths.run(params.name)
    earlier = run_record.read(params.name)
    if not any(step.reason for step in steps):
        print(f"{params.name}: nothing to do", flush=True)
        return
    changed = earlier.get("learning_code") not in (None, provenance.learning_code())
    if changed and _set_aside(folder, ["results", "checkpoints", "grid"]):
        print(f"the learning code has changed: older results now lie in {folder / 'previous'}")
    record = {
        **earlier,
        **provenance.describe(params),
        "file": path,
        "learning_code": provenance.learning_code(),
        "notebooks": earlier.get("notebooks", {}),
    }
    with this_kernel(params):
        for number, step in enumerate(steps, 1):
            label = f"[{number}/{len(steps)}] {step.name}"
            if not step.reason:
                print(f"{label}  unchanged, skipped", flush=True)
                continue
            _execute_step(params, step, record, label)
            print(
                f"{label}  done in {duration(record['notebooks'][step.name]['seconds'])}",
                flush=True,
            )


def _execute_step(params: Params, step: Step, record: Record, label: str) -> None:
    folder = paths.run(params.name)
    entry = record["notebooks"].setdefault(step.name, {})
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
    produced = (folder, paths.figures(params.name), paths.data())
    before, start = run_record.snapshot(*produced), time.monotonic()
    try:
        with _ticker(label, step.seconds):
            _run_notebook(step, folder / "notebooks" / step.notebook.name)
        entry.update(status="done", seconds=round(time.monotonic() - start, 2))
    finally:
        after = run_record.snapshot(*produced)
        written = [path for path, state in after.items() if before.get(path) != state]
        if entry["status"] == "done":
            entry["megabytes"] = round(sum(after[path][1] for path in written) / 1e6, 6)
        _note_outputs(entry, written, params)
        run_record.write(record)


def _run_notebook(step: Step, output: Path) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError

    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{files.TEMPORARY}-{output.name}")
    output.unlink(missing_ok=True)  # what an earlier run left is not this run's
    # Names the notebook does not declare are passed on purpose (`plan`): no warning for them.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    try:
        papermill.execute_notebook(
            literal(step.notebook),
            literal(unfinished),
            parameters=step.parameters,
            kernel_name="python3",
            progress_bar=False,
        )
    except papermill.PapermillExecutionError as error:
        raise NotebookFailed(f"{step.name}: {_failure(error)}\n  see {output}") from None
    except DeadKernelError:
        text = "its process died: killed, or out of memory"
        raise NotebookFailed(f"{step.name}: {text}\n  see {output}") from None
    except Exception as error:  # the kernel cannot start, or does not answer
        text = " ".join(str(error).split())
        message = f"{step.name}: {type(error).__name__}: {text}\n  see {output}"
        raise NotebookFailed(message) from error
    finally:  # a failed notebook is kept too: it shows where it stopped
        if unfinished.exists():
            os.replace(unfinished, output)


def _failure(error: Any) -> str:
    """A cell's error in short: where in the cell, what, and where in the library."""
    trace = re.sub("\x1b\\[[0-9;]*[A-Za-z]", "", "\n".join(error.traceback))
    source = str(error.source).splitlines()
    line = re.search(r"Cell In\s?\[\d+\],? line:? ?(\d+)", trace)
    where = f"cell In [{error.exec_count}]"
    if line and int(line[1]) <= len(source):
        where += f", line {line[1]}: {source[int(line[1]) - 1].strip()}"
    deeper = re.findall(r"^File (.+?:\d+)", trace, re.MULTILINE)
    ours = [place for place in deeper if "/ltgate/" in place] or deeper
    raised = f"\n  raised in {ours[-1]}" if ours else ""
    return f"{error.ename}: {error.evalue}\n  in {where}{raised}"


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
def _ticker(label: str, expected: float | None) -> Iterator[None]:
    """In a terminal, show the time gone by on one line until the block ends."""
    if not sys.stdout.isatty():
        yield
        return
    start, stop = time.monotonic(), threading.Event()
    goal = f" of about {duration(expected)}" if expected is not None else ""

    def tick() -> None:
        while not stop.wait(0.5):
            print(
                f"\r\033[K{label}  {duration(time.monotonic() - start)}{goal}", end="", flush=True
            )

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        print("\r\033[K", end="", flush=True)


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
    with paths.environment(LTGATE_DATA_CACHE=str(paths.data()), LTGATE_HOME=str(home)):
        yield
