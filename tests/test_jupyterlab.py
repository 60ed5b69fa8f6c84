"""The notebooks as a person sees them: JupyterLab on loopback, in headless Chromium.

Wants Playwright (``pip install -e '.[browser]'``) and any Chromium on the PATH (Debian's package,
conda-forge's, or the one that ``LTGATE_CHROMIUM`` names). Without them everything here is skipped,
or fails when ``LTGATE_BROWSER`` is ``all``. By default only the two fastest notebooks are driven;
``all`` drives every one.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import nbformat
import pytest

from ltgate import paths

EVERYTHING = os.environ.get("LTGATE_BROWSER") == "all"
NOTEBOOKS = sorted(paths.notebooks().glob("[0-9][0-9]_*.ipynb"))
CHOSEN = NOTEBOOKS if EVERYTHING else NOTEBOOKS[:2]
STATED = re.compile(r"\*\*Time:\*\* up to (\d+) (s|min)\b")  # for the cells below such a text
SLOWER = 2  # than the machine on which those times were measured
INTERACTIVE = {"02_train_fast": 3, "03_train_slow": 3}  # controls (sliders, menus) that it shows
BARS = {"03_train_slow": 1, "04_grid_search": 1, "05_loihi2": 1, "06_performance": 1}  # at least
LAPTOP = {"width": 1366, "height": 900}
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none", "recordTiming": True},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# Every cell has its number, or one has failed or warned, or Jupyter asks something.
DONE = """() => document.querySelector("dialog.jp-Dialog") ||
    document.querySelector("[data-mime-type='application/vnd.jupyter.stderr']") ||
    Array.from(document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputArea-prompt'))
        .every(prompt => /[0-9]/.test(prompt.textContent))"""
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def refuse(reason: str) -> None:
    (pytest.fail if EVERYTHING else pytest.skip)(reason)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        refuse("Playwright is not installed: pip install -e '.[browser]'")
    names = [os.environ.get("LTGATE_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    program = next((found for name in names if name and (found := shutil.which(name))), None)
    if program is None:
        refuse("no Chromium on the PATH")
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        except Error as error:  # as some distributions' placeholder for a package to install
            refuse(f"{program} does not start: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory) -> Iterator[tuple[str, str, Path]]:
    """Address, token and folder of a JupyterLab with copies of the notebooks and nothing else."""
    home = tmp_path_factory.mktemp("lab")
    for notebook in NOTEBOOKS:
        shutil.copy(notebook, home)
    for name, values in SETTINGS.items():
        file = home / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    variables = {
        "LTGATE_HOME": str(home / "outputs"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_TOKEN": token,
        "PYTHONPATH": str(paths.published()),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={home}"]
    environment = {k: v for k, v in os.environ.items() if k != "LTGATE_PROGRESS"}
    with open(home / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment | variables, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/api?token={token}", server)
            yield address, token, home
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(30)
            server.kill()


def _wait_for(address: str, server: subprocess.Popen) -> None:
    for _ in range(240):
        assert server.poll() is None, "JupyterLab ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.5)
    raise AssertionError("JupyterLab does not answer")


@pytest.mark.parametrize("notebook", CHOSEN, ids=lambda path: path.stem)
def test_a_notebook_runs_in_jupyterlab(browser, lab, notebook: Path) -> None:
    address, token, home = lab
    page = browser.new_page(viewport=LAPTOP)
    # a workspace of its own: no tab of the notebook before
    page.goto(f"{address}/lab/workspaces/{notebook.stem}/tree/{notebook.name}?token={token}")
    page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=120_000)
    _wait_for_kernel(f"{address}/api/sessions?token={token}", notebook.name)
    committed = nbformat.read(notebook, 4)
    _menu(page, "Edit", "Clear Outputs of All Cells")
    _menu(page, "Run", "Run All Cells")
    page.wait_for_function(DONE, timeout=SLOWER * sum(_stated(committed)) * 1000)
    _menu(page, "File", "Save Notebook")
    page.wait_for_timeout(2000)

    ran = nbformat.read(home / notebook.name, 4)
    _as_committed(ran, committed)
    _in_time(ran)
    assert page.locator("mjx-merror").count() == 0
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    controls = page.locator(".jupyter-widgets .slider-container, .jupyter-widgets select")
    assert controls.count() >= INTERACTIVE.get(notebook.stem, 0)
    _bars_are_full(page, BARS.get(notebook.stem, 0))
    _figures_fit(page)
    page.close()


def _wait_for_kernel(address: str, name: str) -> None:
    """Until the notebook's kernel idles and the page is connected to it (the page shows 'idle'
    before)."""
    for _ in range(240):
        with urllib.request.urlopen(address, timeout=30) as answer:
            kernels = [entry["kernel"] for entry in json.load(answer) if entry["path"] == name]
        if any(k["connections"] and k["execution_state"] == "idle" for k in kernels):
            return
        time.sleep(0.5)
    raise AssertionError("no kernel for the notebook")


def _menu(page, menu: str, *items: str) -> None:
    dialog = page.locator("dialog.jp-Dialog")
    assert dialog.count() == 0, dialog.first.inner_text()
    page.click(f".lm-MenuBar-itemLabel:text-is('{menu}')")
    for item in items:
        page.click(f".lm-Menu-itemLabel:text-is('{item}')")


def _stated(notebook: nbformat.NotebookNode) -> list[float]:
    """Seconds that each code cell may take: as the text above it says, else as the opening says."""
    limits = []
    usual = limit = None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = STATED.search(cell.source)
            said = float(found[1]) * {"s": 1, "min": 60}[found[2]] if found else None
            usual = usual or said
            limit = said or usual
        else:
            limits.append(limit)
    return limits


def _in_time(ran: nbformat.NotebookNode) -> None:
    """No cell took longer than the notebook says, by the times that JupyterLab records."""
    cells = [cell for cell in ran.cells if cell.cell_type == "code"]
    for cell, limit in zip(cells, _stated(ran), strict=True):
        times = cell.metadata.execution
        begin, end = (
            datetime.fromisoformat(times[name].replace("Z", "+00:00"))
            for name in ("iopub.execute_input", "shell.execute_reply")
        )
        took = (end - begin).total_seconds()
        print(f"{took:6.1f} s of {limit:3.0f} s: {cell.source.splitlines()[-1]}")
        assert took <= SLOWER * limit, cell.source


def _bars_are_full(page, expected: int) -> None:
    shown = page.locator(".jp-OutputArea-output pre").all_inner_texts()
    bars = [line for text in shown for line in text.splitlines() if re.search(r"\d%\|", line)]
    assert len(bars) >= expected
    assert all("100%|" in bar for bar in bars), bars


def _figures_fit(page) -> None:
    """No figure is wider than its cell, and none is empty."""
    for image in page.locator(".jp-OutputArea-output img").all():
        natural, shown, room = image.evaluate(
            "i => [i.naturalWidth, i.clientWidth, i.closest('.jp-OutputArea-output').clientWidth]"
        )
        assert natural > 100 and 0 < shown <= room


def _as_committed(ran: nbformat.NotebookNode, committed: nbformat.NotebookNode) -> None:
    """Every cell ran without an error and shows what the committed notebook shows."""
    assert len(ran.cells) == len(committed.cells)
    for now, before in zip(ran.cells, committed.cells, strict=True):
        assert now.source == before.source
        if now.cell_type != "code":
            continue
        assert now.execution_count, now.source
        for output in now.outputs:
            assert output.output_type != "error", output.get("evalue")
            assert output.get("name") != "stderr", output.get("text")
        pictures = [
            sum("image/png" in output.get("data", {}) for output in cell.outputs)
            for cell in (now, before)
        ]
        assert pictures[0] == pictures[1], now.source
