"""Every command of README.md, ARTIFACT.md and the pages is run by a shell, as it is written.

In a copy of the checkout, so that nothing here is written to. What makes a command small is added
at its end (the last word counts). Shortened are:

- ``run``, ``grid``, ``robustness``: few images of the bundled digits, never MNIST, a tiny network.
- ``run``: one notebook, mostly 01, also where the command names 02 and 03.
- ``bench``: its smallest sizes, made smaller still in the copy.
- Of commands that differ in their file alone one is run; of the others the words and the file are
  read (``LIKE``).
- ``pytest``: some of the tests.
- ``jupyter lab``: its configuration is shown; ``test_jupyterlab.py`` drives it in a browser.
- ``make``: what it would do is listed (``-n``). Its ``ltgate`` commands are in the table below, the
  others are this test suite, Ruff and pip.
- ``pip``: not run, as it wants a network; its file of requirements exists.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ltgate import __main__
from ltgate.grid.spec import Grid
from ltgate.params import Params

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("docs", "figures", "ltgate", "notebooks", "params", "tests", "tools")
PAGES = (
    "README.md", "ARTIFACT.md", "params/README.md", "docs/results.md", "docs/extend.md",
    "docs/setup.md", "docs/timescales.md",
)  # fmt: skip
PROGRAMS = r"(?:LTGATE_\w+=\S+ )?(?:make|(?:\.venv/bin/)?(?:python -m|jupyter|papermill))\b"
FILLED = {" NAME": " smoke", "/TRIAL/": "/*/"}  # what the texts leave to the reader
LONGEST = 300  # seconds of a command, on a busy machine


def commands(text: str) -> set[str]:
    """The commands of a page: in backticks, or a line of their own; without comments."""
    found = re.findall(rf"`({PROGRAMS}[^`\n]*)`|^({PROGRAMS}.*)$", text, re.MULTILINE)
    lines = (re.sub(r"\s+#.*", "", line) for pair in found for line in pair if line)
    return {part for line in lines for part in line.split(" && ")}


class Case(NamedTuple):
    """How a command is run.

    Attributes:
        added: Words at its end.
        makes: A file that it writes (a pattern); without one it prints something.
        after: The command that has to run before it.
    """

    added: str = ""
    makes: str = ""
    after: str = ""


SIZES = {
    "source": "digits", "seeds": "[0]", "threads": "1", "train_images": "16",
    "validation_images": "8", "test_images": "8", "channels": "[4,4,4]", "hidden": "[4]",
    "hebbian_images": "16", "filter_passes": "1",
}  # fmt: skip
SMALL = "--set control=false " + " ".join(f"{name}={value}" for name, value in SIZES.items())
PAPERMILL = " ".join(f"{name}: {value}," for name, value in SIZES.items())
SHORT = """'tasks=[
  {name: fast, classes: [0, 1, 2], frame_rate_hz: 1000.0, duration_ms: 20.0},
  {name: slow, classes: [3, 4], frame_rate_hz: 50.0, duration_ms: 100.0}]'"""
RUN = "python -m ltgate run params/"
FIRST = f"{SMALL} --only 01"


def first(name: str) -> Case:
    """Notebook 01 of the run ``name``."""
    return Case(FIRST, f"runs/{name}/notebooks/01_data.ipynb")


def grid(name: str) -> Case:
    """All configurations of a grid, in one process."""
    return Case(f"{SMALL} {SHORT} cluster=none", f"figures/{name}/*.png")


CASES = {
    f"{RUN}smoke.yaml": Case(
        f"{SMALL} methods=[lt_gate] --only 03", "runs/smoke/checkpoints/*/task1.safetensors"
    ),
    "python -m ltgate export runs/smoke/checkpoints/TRIAL/task1.safetensors network.nir": Case(
        makes="network.nir", after=f"{RUN}smoke.yaml"
    ),
    "python -m ltgate expected NAME": Case(makes="params/expected.csv", after=f"{RUN}smoke.yaml"),
    f"{RUN}mnist.yaml --only 05": Case(f"{SMALL} {SHORT}", "figures/mnist/table_loihi.csv"),
    f"{RUN}quick.yaml params/mnist.yaml --only 02,03 --set eta=0.005 --seeds 0,1": Case(
        f"--only 01 {SMALL}", "runs/mnist/notebooks/01_data.ipynb"
    ),
    "python -m ltgate run mine.yaml": first("mine"),
    "python -m ltgate run timescales --only 07": Case(
        "--set hidden=[16] train_images=40 validation_images=20 test_images=20 seeds=[0] "
        "calibration_iterations=2 control=false "
        "methods=[tau_5,tau_100,either,gate_quieter,gate_layer]",
        "figures/timescales/table_gate.csv",
    ),
    "python -m ltgate grid published": grid("published"),
    "python -m ltgate grid ablations --set grid_workers=2": Case(
        f"{SMALL} {SHORT}", "figures/ablations/table_ablations.csv"
    ),
    "python -m ltgate robustness params/robustness.yaml": Case(
        f"{SMALL} robustness_trained=[50.0] robustness_rates=[200.0]",
        "figures/robustness/table_kept.csv",
    ),
    "python -m ltgate bench": Case(
        "--set source=digits bench=few threads=1", "figures/bench/table_bench.csv"
    ),
    "python -m ltgate list": Case(),
    "python -m ltgate parameters": Case(),
    "python -m ltgate report mnist": Case(makes="runs/mnist/report.html"),
    "python -m ltgate compare mnist compare": Case(),
    "python -m ltgate clean smoke": Case(
        after="python -m ltgate export runs/smoke/checkpoints/TRIAL/task1.safetensors network.nir"
    ),
    "python -m papermill notebooks/02_train_fast.ipynb out.ipynb -f params/quick.yaml": Case(
        f"-y '{{{PAPERMILL} methods: [lt_gate]}}'", "out.ipynb"
    ),
    "python -m pytest tests/test_extending.py tests/test_readme.py": Case(
        "-q -k 'own_is_one_entry or claims'"
    ),
    ".venv/bin/jupyter lab notebooks": Case("--show-config"),
    "make": Case(),
    "make setup": Case("-n"),
    "make quick": Case("-n"),
    "make mnist": Case("-n"),
    "LTGATE_DATA=/path/to/mnist make mnist": Case("-n"),
    "make test": Case("-n"),
    "make browser": Case("-n"),
    "make site": Case("-n"),
    "make lock": Case("-n"),
    "make clean": Case("-n"),
}
LIKE = {
    *(f"{RUN}{name}.yaml" for name in ("quick", "mnist", "mnist_five", "mnist_reversed", "paper")),
    *(f"{RUN}{name}.yaml" for name in ("compare", "compare_gradient")),
    *(f"python -m ltgate grid {name}" for name in ("published_mnist", "ablations_digits")),
    "python -m ltgate grid ablations",
    "python -m ltgate robustness",
    "python -m ltgate parameters gate",
    "python -m ltgate run timescales_unseen --only 07",
}
PIP = ".venv/bin/python -m pip install --no-deps --require-hashes -r requirements/peers.txt"

SMALLER_BENCH = [
    ("False, 2, 2, 64, 20, (1, 2)", "False, 1, 1, 8, 2, (1,)"),
    (
        "channels=[16, 32, 64], strides=[1, 2, 2], hidden=[256]",
        "channels=[4, 8], strides=[2, 2], hidden=[16]",
    ),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, compiled code included, with this environment as its ``.venv``."""
    home = tmp_path_factory.mktemp("checkout")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, home / folder)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy2(file, home)
    (home / ".venv").symlink_to(sys.prefix)
    page = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
    (home / "mine.yaml").write_text(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    for sizes, smaller in SMALLER_BENCH:
        file = home / "ltgate/perf/bench.py"
        before = file.read_text(encoding="utf-8")
        assert sizes in before
        file.write_text(before.replace(sizes, smaller))
    return home


@pytest.fixture(scope="module")
def variables(checkout: Path) -> dict[str, str]:
    """The environment of a user who has just unpacked the copy."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("LTGATE_")}
    path = f"{checkout}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    places = {"JUPYTER_DATA_DIR": f"{checkout}/.data", "JUPYTER_CONFIG_DIR": f"{checkout}/.config"}
    return {**ours, "PATH": path, "PYTHONPATH": str(checkout), "LTGATE_PROGRESS": "off", **places}


@pytest.fixture(scope="module")
def run(checkout: Path, variables: dict[str, str]) -> Callable[[str], str]:
    """Runs a command of the table, and the one it comes after, once; gives what it printed."""
    printed: dict[str, str] = {}

    def once(command: str) -> str:
        case = CASES[command]
        if case.after:
            once(case.after)
        if command in printed:
            return printed[command]
        words = command
        for placeholder, word in FILLED.items():
            words = words.replace(placeholder, word)
        started = time.time()
        done = subprocess.run(
            f"{words} {case.added}", shell=True, cwd=checkout, env=variables, timeout=LONGEST,
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{words} {case.added}\n{done.stdout}\n{done.stderr}"
        assert not re.search(r"\b[1-9]\d* failed", done.stdout), done.stdout  # trials of a grid
        if case.makes:
            fresh = [f for f in checkout.glob(case.makes) if f.stat().st_mtime > started - 2]
            assert fresh, f"{words}: no new {case.makes}\n{done.stdout}"
        else:
            assert done.stdout.strip()
        printed[command] = done.stdout
        return done.stdout

    return once


def test_the_table_has_the_commands_of_the_texts() -> None:
    written = set().union(*(commands((ROOT / page).read_text(encoding="utf-8")) for page in PAGES))
    assert written == {*CASES, *LIKE, PIP}


@pytest.mark.parametrize("command", CASES)
def test_a_command_runs(command: str, run: Callable[[str], str]) -> None:
    printed = run(command)
    if " make " in f" {command}":
        ours = re.findall(r"^\.venv/bin/(python -m ltgate .*)$", printed, re.MULTILINE)
        assert set(ours) <= {*CASES, *LIKE}
        assert ours or command.split()[-1] not in ("quick", "mnist")


@pytest.mark.parametrize("command", sorted(LIKE))
def test_a_command_like_others_has_its_words_and_its_file(command: str) -> None:
    options = __main__.parser().parse_args(shlex.split(command)[3:])
    kind = Grid if options.action.__name__ == "_grid" else Params
    for file in getattr(options, "files", [getattr(options, "file", None)]):
        assert file is None or kind.load(file)


def test_the_requirements_are_there() -> None:
    assert "--hash=sha256:" in (ROOT / PIP.split()[-1]).read_text(encoding="utf-8")
