"""The numbered notebooks, and one of them executed by papermill in this very Python."""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltgate import files, paths
from ltgate.errors import Failed, UserError

if TYPE_CHECKING:
    from ltgate.params import Params


class NotebookFailed(Failed):
    """A notebook stopped with an error; the message is what to show the user."""


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
    text = "\n".join(c["source"] for c in cells(notebook) if c["cell_type"] == "markdown")
    heading = re.search(r"^#+ *(.+)", text, re.MULTILINE)
    return heading[1].strip() if heading else ""


def after(notebook: Path) -> list[str] | None:
    """Numbers of the notebooks that it builds on, as its metadata has it (:mod:`.lanes`), or None.

    Raises as :func:`cells`.
    """
    return _read(notebook)["metadata"].get("ltgate", {}).get("after")


def cells(notebook: Path) -> list[dict[str, Any]]:
    """Cells of a notebook of format 4, sources as text.

    Raises `UserError` for any other file.
    """
    return _read(notebook)["cells"]


def _read(notebook: Path) -> dict[str, Any]:
    """A notebook's content; read as JSON: importing nbformat takes 2 s."""
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        if content["nbformat"] != 4:
            raise ValueError
        cells = [{**cell, "source": "".join(cell["source"])} for cell in content["cells"]]
        return {"metadata": content.get("metadata", {}), "cells": cells}
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        raise UserError(f"{notebook}: not a readable notebook of format 4 ({kind})") from None


def run_notebook(source: Path, parameters: dict[str, Any], output: Path) -> None:
    """Execute ``source`` with ``parameters`` as ``output``, which shows also where it failed."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{files.TEMPORARY}{output.name}")
    output.unlink(missing_ok=True)  # what an earlier run left is not this run's
    # Names the notebook does not declare are passed on purpose (`plan`): no warning for them.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    # papermill reads paths as templates
    places = (str(path).replace("{", "{{").replace("}", "}}") for path in (source, unfinished))
    try:
        papermill.execute_notebook(
            *places, parameters, kernel_name="python3", progress_bar=sys.stderr.isatty()
        )
        if not files.read_json(unfinished):
            raise OSError("the notebook could not be written whole; is the disk full?")
        return
    except papermill.PapermillExecutionError as error:
        told = _failure(error)
    except DeadKernelError:
        told = "its process died: killed, or out of memory"
    except Exception as error:  # the kernel cannot start, or does not answer
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        if files.read_json(unfinished):
            os.replace(unfinished, output)
        unfinished.unlink(missing_ok=True)
    raise NotebookFailed(f"{source.stem}: {told}\n  see {output}")


@contextlib.contextmanager
def this_kernel(params: "Params") -> Iterator[None]:
    """Make 'python3' mean this very interpreter, with this package, for the block.

    Otherwise a kernel of that name in the user's home could run another Python, and what the user's
    own start-up files define would count as parameters.
    """
    folder = paths.run(params.name) / ".jupyter"
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    command += ["--log-level=CRITICAL"]  # its warnings are about the connection, not the work
    command += ["--IPKernelApp.ignore_cwd=True"]  # another checkout may be the working directory
    spec = {"argv": command, "display_name": "Python 3", "language": "python"}
    files.write_json(folder / "kernels" / "python3" / "kernel.json", spec)
    before = {"JUPYTER_PATH": folder, "PYTHONPATH": paths.PACKAGE.parent}  # what these list
    variables = {
        name: os.pathsep.join(filter(None, [str(first), os.environ.get(name)]))
        for name, first in before.items()
    }
    variables |= {
        "LTGATE_HOME": str(paths.root()),
        "LTGATE_DATA_CACHE": str(paths.data()),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONSTARTUP": "",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else every kernel prints a debugger warning
    }
    if params.threads:
        for library in ("OMP", "MKL", "OPENBLAS"):
            variables[f"{library}_NUM_THREADS"] = str(params.threads)
    with paths.environment(**variables):
        yield


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
