"""The notebooks as a person sees them: JupyterLab on loopback, in headless Chromium.

Wants Playwright (``pip install -e '.[browser]'``) and any Chromium on the PATH (Debian's package,
conda-forge's, or the one that ``LTGATE_CHROMIUM`` names). Without them everything here is skipped,
or fails when ``LTGATE_BROWSER`` is ``all``. By default only the two fastest notebooks are driven;
``all`` drives every one. ``LTGATE_SCREENSHOTS`` names a folder for pictures of them.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from ltgate import paths

EVERYTHING = os.environ.get("LTGATE_BROWSER") == "all"
NOTEBOOKS = sorted(paths.notebooks().glob("[0-9][0-9]_*.ipynb"))
CHOSEN = NOTEBOOKS if EVERYTHING else NOTEBOOKS[:2]
LONGEST = 600  # seconds of a notebook, on a busy machine
INTERACTIVE = {"02_train_fast": 3, "03_train_slow": 3}  # controls (sliders, menus) that it shows
LAPTOP = {"width": 1366, "height": 900}
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none", "recordTiming": True},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# Every cell has its number, or one has failed, or Jupyter asks something.
DONE = """() => document.querySelector("dialog.jp-Dialog") ||
    document.querySelector("[data-mime-type='application/vnd.jupyter.error']") ||
    Array.from(document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputArea-prompt'))
        .every(prompt => /[0-9]/.test(prompt.textContent))"""

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def refuse(reason: str) -> None:
    (pytest.fail if EVERYTHING else pytest.skip)(reason)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        refuse("Playwright is not installed: pip install -e '.[browser]'")
    names = [os.environ.get("LTGATE_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    program = next((found for name in names if name and (found := shutil.which(name))), None)
    if program is None:
        refuse("no Chromium on the PATH")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
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
        "PYTHONPATH": str(paths.checkout()),
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
    _menu(page, "Edit", "Clear Outputs of All Cells")
    _menu(page, "Run", "Run All Cells")
    page.wait_for_function(DONE, timeout=LONGEST * 1000)
    _menu(page, "File", "Save Notebook")
    page.wait_for_timeout(2000)
    _picture(page, notebook.stem)

    assert page.locator("mjx-merror").count() == 0
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    controls = page.locator(".jupyter-widgets .slider-container, .jupyter-widgets select")
    assert controls.count() >= INTERACTIVE.get(notebook.stem, 0)
    _figures_fit(page)
    page.close()
    _as_committed(nbformat.read(home / notebook.name, 4), nbformat.read(notebook, 4))


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


def _menu(page, menu: str, item: str) -> None:
    dialog = page.locator("dialog.jp-Dialog")
    assert dialog.count() == 0, dialog.first.inner_text()
    page.click(f".lm-MenuBar-itemLabel:text-is('{menu}')")
    page.click(f".lm-Menu-itemLabel:text-is('{item}')")


def _picture(page, name: str) -> None:
    folder = os.environ.get("LTGATE_SCREENSHOTS")
    if not folder:
        return
    page.set_viewport_size({"width": 1366, "height": 4000})
    page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
    page.wait_for_timeout(1000)
    page.screenshot(path=str(Path(folder) / f"{name}.png"))
    page.set_viewport_size(LAPTOP)


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
            text = str(output.get("text", ""))
            assert "%|" not in text or "100%|" in text, text  # no bar that is stuck
        pictures = [
            sum("image/png" in output.get("data", {}) for output in cell.outputs)
            for cell in (now, before)
        ]
        assert pictures[0] == pictures[1], now.source
