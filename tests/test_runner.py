"""The runner: what runs, what is skipped, what is refused, what a failure says.

Most tests replace the kernel by a stand-in that only notes what it is asked to run; those marked
``real`` in their names start kernels.
"""

import builtins
import json
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import psutil
import pytest

import ltgate
from ltgate import __main__, grid, paths
from ltgate.data import idx
from ltgate.files import lock
from ltgate.params import Params
from ltgate.runner import claims, execute, lanes, run_record
from ltgate.runner.jupyter import NotebookFailed


def write_notebook(path: Path, parameters: str, *cells: str, after: list[str] | None) -> None:
    """A notebook with a heading, a parameters cell and code cells; what it says it builds on."""
    v4 = nbformat.v4
    first = v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    rest = [v4.new_code_cell(cell) for cell in cells]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    heading = v4.new_markdown_cell(f"# Title of {path.stem}")
    told = {} if after is None else {"ltgate": {"after": after}}
    metadata = {"kernelspec": kernel, **told}
    notebook = v4.new_notebook(cells=[heading, first, *rest], metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


class World:
    """A throw-away project: notebooks, parameter files, outputs, and a log of what ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[tuple[str, dict[str, Any]]] = []
        self.fails: dict[str, BaseException] = {}

    def notebook(
        self, name: str, parameters: str = "name = 'smoke'\neta = 0.01", *cells: str, after=None
    ):
        write_notebook(self.folder / f"notebooks/{name}.ipynb", parameters, *cells, after=after)

    def params(self, name: str = "small", **values: Any) -> str:
        path = self.folder / "params" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"name": name, **values}))
        return str(path)

    def library_file(self, name: str, text: str) -> None:
        path = self.folder / "ltgate" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *arguments: str) -> int:
        """Exit status of ``python -m ltgate run``; `names` tells what ran in it."""
        self.ran.clear()
        return __main__.main(["run", *arguments])

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.ran]

    def stand_in(self, source: Path, parameters: dict[str, Any], output: Path) -> None:
        name = source.stem
        self.ran.append((name, parameters))
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("executed")
        run = output.parent.parent
        for made in (run / f"results/{name}.csv", run / f"checkpoints/{name}/last.bin",
                     self.folder / f"figures/small/{name}.png"):  # fmt: skip
            made.parent.mkdir(parents=True, exist_ok=True)
            if not made.exists() or made.read_text() != name:  # as the library does
                made.write_text(name)
        if name in self.fails:
            raise self.fails.pop(name)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    here = World(tmp_path)
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    monkeypatch.delenv("LTGATE_DATA_CACHE", raising=False)
    monkeypatch.setattr(paths, "notebooks", lambda: tmp_path / "notebooks")
    monkeypatch.setattr(paths, "params", lambda: tmp_path / "params")
    return here


@pytest.fixture
def three(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Three notebooks and the stand-in for the kernel."""
    for name in ("02_second", "01_first", "03_third"):
        world.notebook(name)
    world.notebook("notes")
    monkeypatch.setattr(execute, "run_notebook", world.stand_in)
    for name in ("__init__.py", "neurons.py"):
        world.library_file(name, "x = 1\n")
    # What the runner takes for the library: the real one may be edited while tests run.
    monkeypatch.setattr(ltgate, "__file__", str(world.folder / "ltgate" / "__init__.py"))
    return world


# --------------------------------------------------------------------------- what runs, what not


def test_numbered_notebooks_run_in_order_and_are_then_skipped(three: World, capsys) -> None:
    assert three.run(three.params()) == 0
    assert three.names == ["01_first", "02_second", "03_third"]
    assert "[2/3] 02_second  done in " in capsys.readouterr().out
    assert three.run(three.params()) == 0
    assert three.names == []
    assert "02_second  unchanged, will be skipped" in capsys.readouterr().out


def test_chosen_notebooks(three: World) -> None:
    assert three.run(three.params(), "--only", "3,01") == 0
    assert three.names == ["01_first", "03_third"]


def outputs_saved(world: World) -> None:
    path = world.folder / "notebooks" / "02_second.ipynb"
    notebook = nbformat.read(path, as_version=4)
    output = nbformat.v4.new_output("stream", name="stdout", text="hello")
    notebook.cells[1].update(outputs=[output], execution_count=7)
    nbformat.write(notebook, path)


ALL, LATER = ["01_first", "02_second", "03_third"], ["02_second", "03_third"]
RUN = "runs/small/"
AGAIN = {  # what is changed after a run: how, and what then runs
    "nothing": (lambda world: None, []),
    "a parameter": (lambda world: world.params(eta=0.5), ALL),
    "a notebook": (lambda world: world.notebook("02_second", "name = 'smoke'", "more = 1"), LATER),
    "a notebook's outputs": (outputs_saved, []),
    "the library": (lambda world: world.library_file("neurons.py", "x = 2\n"), ALL),
    "a broken record": (
        lambda world: (world.folder / RUN / "run.json").write_text('{"notebooks": {"01_fi'),
        ALL,
    ),
    "without checkpoints": (
        lambda world: (world.folder / RUN / "checkpoints/02_second/last.bin").unlink(),
        [],
    ),
    **{
        f"{what} {output}": (lambda world, f=change, o=output: f(world.folder / o), LATER)
        for output in (f"{RUN}results/02_second.csv", f"{RUN}notebooks/02_second.ipynb",
                       "figures/small/02_second.png")
        for what, change in (("without", Path.unlink), ("empty", lambda file: file.write_text("")),
                             ("cut", lambda file: file.write_text(file.read_text()[:-1])))
    },
}  # fmt: skip


@pytest.mark.parametrize("what", AGAIN)
def test_what_changed_runs_again_with_all_after_it(three: World, what: str) -> None:
    (change, ran), path = AGAIN[what], three.params()
    three.run(path)
    change(three)
    assert three.run(path) == 0 and three.names == ran
    assert three.run(path) == 0 and three.names == []


def test_a_result_found_and_kept_by_a_rerun_must_stay_too(three: World) -> None:
    three.run(three.params())
    three.notebook("02_second", "name = 'smoke'", "more = 1")
    three.run(three.params())
    (three.folder / "runs/small/results/02_second.csv").unlink()
    three.run(three.params())
    assert three.names == ["02_second", "03_third"]


def own_images(folder: Path, labels: int, seed: int = 0) -> None:
    """IDX files of so many classes, as a user brings them."""
    images = np.random.default_rng(seed).integers(0, 256, (60, 28, 28), np.uint8)
    pool = (images, (np.arange(60) % labels).astype(np.uint8))
    idx.save(folder, train=pool, test=pool)


def test_image_files_replaced_under_equal_size_and_time_run_again(three: World) -> None:
    images = three.folder / "images"
    own_images(images, 10)
    arguments = (three.params(source=f"idx:{images}"),)
    three.run(*arguments)
    (images / "stray").write_text("no image file")
    three.run(*arguments)
    assert three.names == []
    for pool in ("train", "t10k"):
        file = images / f"{pool}-images-idx3-ubyte"
        before, content = file.stat(), bytearray(file.read_bytes())
        content[99] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file.stat().st_size == before.st_size
        three.run(*arguments)
        assert three.names == ALL, pool
    os.utime(file)
    three.run(*arguments)
    assert three.names == [], "another time is no other content"


def test_wrong_image_files_of_the_user_are_told_before_any_work(three: World, capsys) -> None:
    images = three.folder / "images"
    own_images(images, 7)
    assert three.run(three.params(source=f"idx:{images}")) == 2
    told = "error: task 'slow': classes [7, 8, 9] are not among the train images of idx:"
    assert capsys.readouterr().err.startswith(told)
    assert three.names == []


def test_a_wrong_folder_of_mnist_is_told_before_any_work(three: World, monkeypatch, capsys) -> None:
    file = three.folder / "nowhere" / "train-images-idx3-ubyte"
    monkeypatch.setenv("LTGATE_DATA", str(file.parent))
    assert three.run(three.params(source="mnist")) == 2
    told = f"error: LTGATE_DATA: {file} does not exist\n"
    assert capsys.readouterr().err == told and three.names == []


def test_a_file_in_place_of_our_folders_is_told(three: World, monkeypatch, capsys) -> None:
    path = three.params()
    monkeypatch.setenv("LTGATE_DATA_CACHE", path)
    assert three.run(path) == 2
    assert capsys.readouterr().err == f"error: LTGATE_DATA_CACHE = {path!r}: is no folder\n"


def test_a_grid_file_is_told(three: World, capsys) -> None:
    grid = three.params(axes={"eta": [0.1, 0.2]})
    assert three.run(grid) == 2
    told = f"error: {grid}: is a grid file (it has 'axes'); `ltgate grid` runs it\n"
    assert capsys.readouterr().err == told


def test_out_moves_runs_and_figures_but_not_data(three: World, monkeypatch) -> None:
    seen, base = [], three.folder / "else where"
    places = lambda: [paths.run("small"), paths.figures("small"), paths.data(), paths.own("mine")]  # noqa: E731
    monkeypatch.setattr(execute, "run_notebook", lambda *_: seen.extend(places()))
    monkeypatch.chdir(three.folder)
    assert three.run(three.params(), "--only", "01", "--out", "else where") == 0
    kept = [three.folder / "data", three.folder / "mine"]
    assert seen == [base / "runs" / "small", base / "figures" / "small", *kept]
    assert (base / "runs/small/run.json").exists() and not (three.folder / "runs").exists()
    assert paths.root() == three.folder, "the environment is as it was"


# ------------------------------------------------------------------------------- side by side


def six(
    world: World, monkeypatch: pytest.MonkeyPatch, meets: dict[str, threading.Barrier]
) -> list[str]:
    """Six notebooks on two lanes, and when they run; those of ``meets`` wait for each other."""

    def stand_in(source: Path, parameters: dict[str, Any], output: Path) -> None:
        events.append(f"{source.stem} begins")
        if source.stem in meets:
            meets[source.stem].wait(10)
        world.stand_in(source, parameters, output)
        events.append(f"{source.stem} ends")

    events: list[str] = []
    for name, builds_on in {"01_a": [], "02_b": [], "03_c": ["02"], "04_d": None, "05_e": [],
                            "06_f": ["05"]}.items():  # fmt: skip
        world.notebook(name, after=builds_on)
    monkeypatch.setattr(execute, "run_notebook", stand_in)
    monkeypatch.setattr(lanes, "number", lambda _: 2)
    return events


def test_notebooks_run_beside_those_that_they_do_not_build_on(world: World, monkeypatch, capsys):
    first, second = threading.Barrier(2), threading.Barrier(2)
    meets = {"01_a": first, "02_b": first, "03_c": second, "05_e": second}
    events = six(world, monkeypatch, meets)
    assert world.run(world.params()) == 0
    assert sorted(world.names) == ["01_a", "02_b", "03_c", "04_d", "05_e", "06_f"]
    assert events.index("02_b ends") < events.index("03_c begins")
    assert events.index("05_e ends") < events.index("06_f begins")
    place = events.index("04_d begins")
    assert events[place + 1] == "04_d ends", "it says nothing, so it has the machine for itself"
    assert {f"{name} ends" for name in ("01_a", "02_b", "03_c")} <= {*events[:place]}
    assert "[4/6] 04_d  done in " in capsys.readouterr().out
    assert world.run(world.params()) == 0 and world.names == [], "what ran beside is done too"


def test_what_does_not_build_on_a_changed_notebook_does_not_run_again(world: World, monkeypatch):
    six(world, monkeypatch, {})
    world.run(world.params())
    world.notebook("02_b", "name = 'smoke'", "more = 1", after=[])
    world.run(world.params())
    assert sorted(world.names) == ["02_b", "03_c", "04_d"]


def test_the_expected_time_is_that_of_the_lanes(world: World, monkeypatch, capsys) -> None:
    six(world, monkeypatch, {})
    seconds = {"01_a": 10, "02_b": 4, "03_c": 5, "04_d": 7, "05_e": 20, "06_f": 2}
    rows = [f"small,{name},{value},1,x" for name, value in seconds.items()]
    file = world.folder / "params/expected.csv"
    parameters = world.params()
    file.write_text("\n".join(["name,notebook,seconds,megabytes,machine", *rows, ""]))
    world.run(parameters)
    # 01 and 02, 03 from 4 to 9, 05 from 9 to 29, 06 from 29 to 31, 04 alone to 38
    told = "expected: 38.0 s, up to 2 notebooks side by side; 6 MB of disk, "
    assert told in capsys.readouterr().out


def test_files_are_counted_once_and_what_changes_later_is_looked_at_again(world, monkeypatch):
    six(world, monkeypatch, {})
    begun, written, ended = threading.Event(), threading.Event(), threading.Event()

    def stand_in(source: Path, parameters: dict[str, Any], output: Path) -> None:
        world.ran.append((source.stem, parameters))
        shared = output.parent.parent / "results" / "shared.csv"
        shared.parent.mkdir(exist_ok=True)
        if source.stem == "01_a":
            assert begun.wait(10)
            shared.write_text("a" * 1_000_000)
            written.set()
            assert ended.wait(10)
            shared.write_text("b" * 1_000_000)
        elif source.stem == "02_b":
            begun.set()
            assert written.wait(10)

    def told(*words: object, **_: object) -> None:
        if "02_b  done" in str(words):
            ended.set()

    monkeypatch.setattr(execute, "run_notebook", stand_in)
    monkeypatch.setattr(builtins, "print", told)
    world.run(world.params(), "--only", "01,02")
    entries = run_record.read("small")["notebooks"]
    assert entries["01_a"]["outputs"] == entries["02_b"]["outputs"] != {}
    assert entries["02_b"]["megabytes"] >= 1 > entries["01_a"]["megabytes"], "counted once"
    world.run(world.params(), "--only", "01,02")
    assert world.names == []


# -------------------------------------------------------------------------- what is passed on


def test_a_notebook_is_passed_the_name_and_what_differs_from_defaults(three: World) -> None:
    three.run(three.params(gamma=0.25), "--set", "ridge=2.5", "seeds=[3, 4]", "--only", "01")
    (_, passed), *_ = three.ran
    assert passed == {"name": "small", "seeds": [3, 4], "gamma": 0.25, "ridge": 2.5}
    assert Params(**passed) == Params.load(three.params(gamma=0.25), ridge=2.5, seeds=[3, 4])


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("arguments", "expected_message"),
    [
        (["--set", "eta='1e-3'"], "eta = '1e-3': must be a finite number >= 0; this is text"),
        (["--set", "device=cuda:99"], "device = 'cuda:99': PyTorch "),
        (["--set", "eta"], "--set eta: must be name=value"),
        (["--set", "eta=[1"], "--set eta=[1: the value is not valid YAML"),
        (["--set", "eta="], "eta = None: must be a finite number"),
        (["--only", "07"], "--only 07: no notebook '07'; there are 01, 02, 03"),
        (["none.yaml"], "none.yaml: cannot read this parameter file"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(
    three: World, capsys, arguments: list[str], expected_message: str
) -> None:
    assert three.run(three.params(), *arguments) == 2
    said = capsys.readouterr()
    assert expected_message in said.err
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert said.out == "" and three.names == [] and not (three.folder / "runs").exists()


def test_two_runs_in_one_folder_are_refused(three: World, capsys) -> None:
    assert three.run(three.params("one"), three.params("two"), "--set", "name=same") == 2
    assert "name = 'same': two runs would share one folder" in capsys.readouterr().err


def test_a_folder_in_use_is_refused_with_its_holder(three: World, capsys) -> None:
    folder = three.folder / "runs" / "small"
    with lock(folder / ".lock"):
        assert three.run(three.params()) == 2
        assert __main__.main(["clean", "small"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(
        f"error: {folder}: in use by process {os.getpid()} on {platform.node()} since 2"
    )
    assert second == first and three.names == []
    assert three.run(three.params()) == 0, "free again"


def test_a_folder_in_which_a_grid_or_a_trial_works_is_not_cleaned(three: World, capsys) -> None:
    at_work = lock(three.folder / "runs/small/locks/key.lock")
    with at_work:
        assert __main__.main(["clean", "small"]) == 2
    file = three.folder / "empty.yaml"
    file.write_text(json.dumps({"name": "small", "axes": {"eta": [0.1]}}))
    told = []

    def jobs(_: grid.Grid) -> list:
        told.append(__main__.main(["clean", "small"]))
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid.Grid, "jobs", jobs)
        grid.run(grid.Grid.load(file))
    assert told == [2]
    folder, said = three.folder / "runs/small", capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith(f"error: {folder}: in use by ") for line in said)
    assert __main__.main(["clean", "small"]) == 0 and not folder.exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"nbformat": 3, "worksheets": []}'])
def test_a_broken_notebook_is_refused(three: World, capsys, text: str) -> None:
    (three.folder / "notebooks" / "02_second.ipynb").write_text(text)
    assert three.run(three.params()) == 2
    assert "02_second.ipynb: not a readable notebook" in capsys.readouterr().err


def test_too_little_disk_space_is_refused(three: World, capsys) -> None:
    header = "name,notebook,seconds,megabytes,machine\n"
    (three.folder / "params").mkdir()
    (three.folder / "params/expected.csv").write_text(header + "small,01_first,5,1e15,here\n")
    assert three.run(three.params()) == 2
    assert "MB are needed and" in capsys.readouterr().err
    assert three.names == []


# ----------------------------------------------------------------------- failures, interruptions


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (NotebookFailed("02_second: RuntimeError: boom"), 1, "02_second: RuntimeError: boom"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on from here"),
    ],
)
def test_a_stop_keeps_what_is_done_and_the_next_run_goes_on(
    three: World, capsys, error: BaseException, status: int, told: str
) -> None:
    three.fails["02_second"] = error
    assert three.run(three.params()) == status
    assert three.names == ["01_first", "02_second"]
    assert capsys.readouterr().err == f"error: {told}\n"
    assert three.run(three.params()) == 0
    assert three.names == ["02_second", "03_third"]
    assert "02_second  time unknown (did not finish)" in capsys.readouterr().out


def test_a_killed_rerun_makes_the_later_notebooks_run(three: World) -> None:
    three.run(three.params())
    three.notebook("02_second", "name = 'smoke'", "more = 1")
    three.fails["02_second"] = KeyboardInterrupt()
    three.run(three.params(), "--only", "02")
    three.run(three.params(), "--only", "03")
    assert three.names == ["03_third"]


# -------------------------------------------------------------------------- record, expectation


def test_the_record_tells_what_was_run_where_and_for_how_long(three: World) -> None:
    three.run(three.params(seeds=[0, 1]))
    record, params = run_record.read("small"), Params(name="small", seeds=[0, 1])
    assert record["parameters"] == params.model_dump() and record["hash"] == params.hash
    assert record["seeds"] == [0, 1] and record["version"] and record["commit"]
    assert record["libraries"]["python"].startswith(f"3.{sys.version_info.minor}.")
    assert record["libraries"]["numpy"] and record["machine"]["cores"] >= 1
    assert record["machine"]["memory_gb"] > 0 and record["machine"]["gpu"]
    assert list(record["notebooks"]) == ALL
    for entry in record["notebooks"].values():
        assert entry["status"] == "done" and entry["seconds"] >= 0 and entry["megabytes"] > 0


def test_expectations_come_from_the_last_run_else_from_the_table(three: World, capsys) -> None:
    header = "name,notebook,seconds,megabytes,machine\n"
    three.params()
    (three.folder / "params/expected.csv").write_text(
        header + "small,01_first,200,3.5,a big machine\nother,02_second,1,1,x\n"
    )
    three.fails["02_second"] = NotebookFailed("stop")
    three.run(three.params())
    said = capsys.readouterr().out
    assert "01_first   about 3 min 20 s (not run yet)" in said
    assert "02_second  time unknown (an earlier notebook runs)" in said
    assert "expected: 3 min 20 s; 4 MB of disk, " in said
    record = run_record.read("small")
    record["notebooks"]["01_first"]["seconds"] = 7320.0
    run_record.write(record)
    three.run(three.params(eta=0.5))
    assert "01_first   about 2 h 02 min (parameters changed)" in capsys.readouterr().out


def test_measured_times_go_into_the_table(three: World) -> None:
    three.run(three.params("other"))
    three.run(three.params())
    assert __main__.main(["expected", "other"]) == 0
    assert __main__.main(["expected", "small"]) == 0
    assert __main__.main(["expected", "small"]) == 0, "again, in place of the old rows"
    rows = claims.costs()
    assert [(row["name"], row["notebook"]) for row in rows] == [
        (name, notebook) for name in ("other", "small") for notebook in ALL
    ]
    assert all("cores, GPU" in row["machine"] for row in rows)
    assert claims.expected("small", "01_first")[0] is not None
    assert __main__.main(["expected", "never"]) == 2


# ------------------------------------------------------------------------------- list and clean


def test_list_tells_notebooks_and_parameter_files(three: World, capsys) -> None:
    three.params()
    (three.folder / "params/grid.yaml").write_text("# A grid\nname: grid\n")
    assert __main__.main(["list"]) == 0
    said = capsys.readouterr().out
    assert "01_first           Title of 01_first\n" in said
    assert "params/grid.yaml   A grid\n" in said


def test_clean_deletes_the_run_and_keeps_its_figures(three: World, capsys) -> None:
    three.run(three.params())
    figure = three.folder / "figures/small/02_second.png"
    assert __main__.main(["clean", "small"]) == 0
    assert not (three.folder / "runs/small").exists() and figure.exists()
    assert __main__.main(["clean", "small"]) == 2
    assert __main__.main(["clean", "../figures"]) == 2
    assert "there is no such run" in capsys.readouterr().err and figure.exists()


# ---------------------------------------------------------------------------------- real kernels

REPORT = """
import json, os, sys
from ltgate import params, paths
p = params.from_namespace(globals())
report = dict(python=sys.executable, folder=os.getcwd(), data=str(paths.data()), eta=p.eta,
              gamma=p.gamma, tasks=[task.name for task in p.tasks], hash=p.hash,
              threads=os.environ["OMP_NUM_THREADS"])
(paths.run(p.name) / "results").mkdir(exist_ok=True)
(paths.run(p.name) / "results" / "report.json").write_text(json.dumps(report))
"""


def test_a_real_kernel_is_this_python_with_this_library_and_all_parameters(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd, caplog
) -> None:
    bogus = world.folder / "user" / "kernels" / "python3"
    bogus.mkdir(parents=True)
    command = {"argv": ["/bin/false"], "display_name": "bogus", "language": "python"}
    (bogus / "kernel.json").write_text(json.dumps(command))
    monkeypatch.setenv("JUPYTER_PATH", str(world.folder / "user"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(world.folder / "user"))
    startup = world.folder / "ipython" / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("unrelated = 7")  # no parameter of a notebook
    monkeypatch.setenv("IPYTHONDIR", str(world.folder / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(startup))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    away = world.folder / "away {name} $HOME"
    away.mkdir()
    monkeypatch.chdir(away)
    world.notebook("01_first", "name = 'smoke'\neta = 0.01", REPORT)
    file = world.params(gamma=0.25, threads=3, tasks=[Params().tasks[0].model_dump()])
    assert world.run(file, "--set", "eta=0.5", "--out", ".") == 0
    report = json.loads((away / "runs/small/results/report.json").read_text())
    assert report == {
        "python": sys.executable,
        "folder": str(away),
        "data": str(world.folder / "data"),
        "eta": 0.5,
        "gamma": 0.25,
        "tasks": ["fast"],
        "hash": Params.load(file, eta=0.5).hash,
        "threads": "3",
    }
    executed = nbformat.read(away / "runs/small/notebooks/01_first.ipynb", as_version=4)
    assert "injected-parameters" in executed.cells[2].metadata.tags
    assert capfd.readouterr().err == "", "no warnings of the kernel"
    assert [record for record in caplog.records if record.name == "papermill"] == []


def test_a_real_failure_gives_the_error_its_line_and_the_notebook(world: World, capsys) -> None:
    failing = "from ltgate.files import digest\ndef inner():\n    return digest({1})\ninner()"
    world.notebook("01_first", "name = 'smoke'", failing)
    world.notebook("02_second")
    assert world.run(world.params()) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("error: 01_first: TypeError: Object of type set is not JSON")
    assert said[1] == "  in cell In [3], line 4: inner()"
    assert said[2].startswith("  raised in ") and "ltgate/files.py:" in said[2], "not json's own"
    output = world.folder / "runs/small/notebooks/01_first.ipynb"
    assert said[3] == f"  see {output}" and len(said) == 4
    assert "TypeError" in output.read_text()
    assert run_record.read("small")["notebooks"]["01_first"]["status"] == "unfinished"
    assert "02_second" not in run_record.read("small")["notebooks"]


SLOW = """
import time
from ltgate import paths
(paths.run(name) / "started").touch()
time.sleep(120)
"""


@pytest.mark.parametrize("stopped_by", ["a failure", "Ctrl-C"])
def test_a_real_kernel_beside_ends_with_what_stops_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys, stopped_by: str
) -> None:
    monkeypatch.setattr(lanes, "number", lambda _: 2)
    started = "from ltgate import paths\nwhile not (paths.run(name) / 'started').exists(): pass\n"
    fails = {
        "a failure": "1 / 0",
        "Ctrl-C": "import os, signal; os.kill(os.getppid(), signal.SIGINT)",
    }
    waits = "\nimport time; time.sleep(120)"
    world.notebook("01_first", "name = 'smoke'", SLOW, after=[])
    world.notebook("02_second", "name = 'smoke'", started + fails[stopped_by] + waits, after=[])
    world.notebook("03_third", "name = 'smoke'", after=[])
    before = time.monotonic()
    status = world.run(world.params())
    told = capsys.readouterr().err
    if stopped_by == "a failure":
        assert status == 1 and "02_second: ZeroDivisionError" in told
    else:
        assert status == 130 and told == "error: interrupted; the same command goes on from here\n"
    assert time.monotonic() - before < 100
    left = [c for c in psutil.Process().children() if "ipykernel_launcher" in c.cmdline()]
    assert left == []
    notebooks = run_record.read("small")["notebooks"]
    assert {name: notebooks[name]["status"] for name in notebooks} == dict.fromkeys(
        ("01_first", "02_second"), "unfinished"
    )


def test_a_real_kernel_that_dies_is_a_failure(world: World, capsys) -> None:
    world.notebook("01_first", "name = 'smoke'", "import os\nos.kill(os.getpid(), 9)")
    assert world.run(world.params()) == 1
    assert "01_first: its process died: killed, or out of memory" in capsys.readouterr().err
