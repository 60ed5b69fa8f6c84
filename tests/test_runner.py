"""The runner: what runs, what is skipped, what is refused, what a failure says.

Most tests replace the kernel by a stand-in that only notes what it is asked to run; those marked
``real`` in their names start kernels.
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

import ltgate
from ltgate import __main__, paths, provenance
from ltgate.data import idx
from ltgate.files import lock
from ltgate.params import Params
from ltgate.runner import claims, execute, jupyter, run_record
from ltgate.runner.jupyter import NotebookFailed

OUTSIDE = ("figures/bars.py", "runner/plan.py", "loihi/search.py")  # of the learning code


def write_notebook(path: Path, parameters: str, *cells: str) -> None:
    """A notebook with a heading, a parameters cell and code cells."""
    v4 = nbformat.v4
    first = v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    rest = [v4.new_code_cell(cell) for cell in cells]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    heading = v4.new_markdown_cell(f"# Title of {path.stem}")
    notebook = v4.new_notebook(cells=[heading, first, *rest], metadata={"kernelspec": kernel})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


class World:
    """A throw-away project: notebooks, parameter files, outputs, and a log of what ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[tuple[str, dict[str, Any]]] = []
        self.fails: dict[str, BaseException] = {}

    def notebook(self, name: str, parameters: str = "name = 'smoke'\neta = 0.01", *cells: str):
        write_notebook(self.folder / "notebooks" / f"{name}.ipynb", parameters, *cells)

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
        for made in (f"results/{name}.csv", f"checkpoints/{name}/last.bin"):
            (run / made).parent.mkdir(parents=True, exist_ok=True)
            if not (run / made).exists():  # as the library does: nothing is made twice
                (run / made).write_text(name)
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
    for name in ("__init__.py", "neurons.py", *OUTSIDE):
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


@pytest.mark.parametrize(
    ("before", "then", "ran"),
    [
        ([], ["--only", "3,01"], ["01_first", "03_third"]),
        ([[]], ["--force"], ["01_first", "02_second", "03_third"]),
        ([[], ["--only", "02", "--force"]], [], ["03_third"]),  # made anew, so what follows is old
        ([[], ["--only", "03", "--force"]], [], []),
    ],
)
def test_chosen_and_forced_notebooks(three: World, before, then, ran) -> None:
    for arguments in before:
        three.run(three.params(), *arguments)
    assert three.run(three.params(), *then) == 0
    assert three.names == ran


def outputs_saved(world: World) -> None:
    path = world.folder / "notebooks" / "02_second.ipynb"
    notebook = nbformat.read(path, as_version=4)
    output = nbformat.v4.new_output("stream", name="stdout", text="hello")
    notebook.cells[1].update(outputs=[output], execution_count=7)
    nbformat.write(notebook, path)


ALL, LATER = ["01_first", "02_second", "03_third"], ["02_second", "03_third"]
OF_RUN = {"results/02_second.csv": LATER, "notebooks/02_second.ipynb": LATER,
          "checkpoints/02_second/last.bin": []}  # fmt: skip
AGAIN = {  # what is changed after a run: how, and what then runs
    "nothing": (lambda world: None, []),
    "a parameter": (lambda world: world.params(eta=0.5), ALL),
    "a notebook": (lambda world: world.notebook("02_second", "name = 'smoke'", "more = 1"), LATER),
    "a notebook's outputs": (outputs_saved, []),
    "a broken record": (
        lambda world: (world.folder / "runs/small/run.json").write_text('{"notebooks": {"01_fi'),
        ALL,
    ),
    **{
        f"without {gone}": (
            lambda world, gone=gone: (world.folder / "runs/small" / gone).unlink(),
            ran,
        )
        for gone, ran in OF_RUN.items()
    },
}


@pytest.mark.parametrize("what", AGAIN)
def test_what_changed_runs_again_with_all_after_it(three: World, what: str) -> None:
    (change, ran), path = AGAIN[what], three.params()
    three.run(path)
    change(three)
    assert three.run(path) == 0 and three.names == ran
    assert three.run(path) == 0 and three.names == []


def test_a_value_from_elsewhere_is_no_change(three: World) -> None:
    three.run(three.params(eta=0.5))
    assert three.run(three.params(), "--set", "eta=0.5") == 0 and three.names == []


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


def test_changed_image_files_of_the_user_run_again(three: World) -> None:
    images = three.folder / "images"
    own_images(images, 10)
    arguments = (three.params(source=f"idx:{images}"),)
    three.run(*arguments)
    three.run(*arguments)
    assert three.names == []
    rows = three.folder / "runs/small/results/old.csv"
    rows.write_text("rows of the old images")
    (images / "stray").write_text("no image file")
    three.run(*arguments)
    assert three.names == []
    own_images(images, 10, seed=1)
    three.run(*arguments)
    assert three.names == ["01_first", "02_second", "03_third"]
    assert not rows.exists() and list((three.folder / "runs/small/previous").rglob("old.csv"))


def test_wrong_image_files_of_the_user_are_told_before_any_work(three: World, capsys) -> None:
    images = three.folder / "images"
    own_images(images, 7)
    assert three.run(three.params(source=f"idx:{images}")) == 2
    told = "error: task 'slow': classes [7, 8, 9] are not among the train images of idx:"
    assert capsys.readouterr().err.startswith(told)
    assert three.names == []


def test_a_wrong_folder_of_mnist_is_told_before_any_work(three: World, monkeypatch, capsys) -> None:
    file = three.folder / "nowhere" / "train-images-idx3-ubyte"
    told = f": {file} does not exist, nor does {file.name}.gz beside it\n"
    monkeypatch.setenv("LTGATE_DATA", str(file.parent))
    assert three.run(three.params(source="mnist")) == 2
    assert capsys.readouterr().err == f"error: LTGATE_DATA{told}"
    monkeypatch.setenv("LTGATE_DATA", "/elsewhere")
    assert three.run(three.params(source="mnist", data_folder=str(file.parent))) == 2
    assert capsys.readouterr().err == f"error: data_folder{told}"
    assert three.names == []


@pytest.mark.parametrize("variable", ["LTGATE_HOME", "LTGATE_DATA_CACHE"])
def test_a_file_in_place_of_our_folders_is_told(three: World, variable, monkeypatch, capsys):
    path = three.params()
    monkeypatch.setenv(variable, path)
    assert three.run(path) == 2
    assert capsys.readouterr().err == f"error: {variable} = {path!r}: is no folder\n"


def test_a_grid_file_is_told(three: World, capsys) -> None:
    grid = three.params(axes={"eta": [0.1, 0.2]})
    assert three.run(grid) == 2
    told = f"error: {grid}: is a grid file (it has 'axes'); `ltgate grid` runs it\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("file", OUTSIDE)
def test_a_change_of_what_only_shows_keeps_the_results(three: World, file: str) -> None:
    three.run(three.params())
    kept = three.folder / "runs/small/results/02_second.csv"
    kept.write_text("kept")
    three.library_file(file, "x = 1\n# a comment\n")
    three.run(three.params())
    assert kept.read_text() == "kept"
    assert three.names == ["01_first", "02_second", "03_third"]
    assert not (three.folder / "runs/small/previous").exists()


def test_a_change_of_what_learns_sets_all_results_aside(three: World, capsys) -> None:
    three.run(three.params())
    results = three.folder / "runs/small/results/02_second.csv"
    results.write_text("old")
    three.library_file("neurons.py", "x = 2\n")
    assert three.run(three.params(), "--only", "02") == 0
    assert "the learning code has changed" in capsys.readouterr().out
    assert results.read_text() == "02_second"
    previous = three.folder / "runs/small/previous"
    assert (previous / "results/02_second.csv").read_text() == "old"
    assert (previous / "checkpoints/03_third/last.bin").exists()
    assert not (three.folder / "runs/small/checkpoints/03_third").exists()


def test_force_makes_anew_what_the_notebook_made_and_no_more(three: World) -> None:
    three.run(three.params())
    run = three.folder / "runs/small"
    for name in ("02_second", "03_third"):
        (run / f"results/{name}.csv").write_text("old")
        (run / f"checkpoints/{name}/last.bin").write_text("old")
    three.run(three.params(), "--force", "--only", "02")
    assert (run / "results/02_second.csv").read_text() == "02_second"
    assert (run / "checkpoints/02_second/last.bin").read_text() == "02_second"
    assert (run / "results/03_third.csv").read_text() == "old"
    assert (run / "checkpoints/03_third/last.bin").read_text() == "old"
    three.run(three.params(), "--force", "--only", "02")
    assert three.names == ["02_second"], "a second time, over what was set aside before"


def test_several_files_each_have_their_run(three: World) -> None:
    assert three.run(three.params("one"), three.params("two", eta=0.5), "--only", "01") == 0
    assert [(name, p["name"], p.get("eta")) for name, p in three.ran] == [
        ("01_first", "one", None),
        ("01_first", "two", 0.5),
    ]
    assert (three.folder / "runs/one/run.json").exists()
    assert (three.folder / "runs/two/run.json").exists()


def test_out_moves_runs_and_figures_but_not_data(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def look(*_: Any) -> None:
        seen.update(run=paths.run("small"), figures=paths.figures("small"), data=paths.data())
        seen.update(images=paths.own("mine"))

    monkeypatch.setattr(execute, "run_notebook", look)
    monkeypatch.chdir(three.folder)
    assert three.run(three.params(), "--only", "01", "--out", "else where") == 0
    base = three.folder / "else where"
    assert seen == {
        "run": base / "runs" / "small",
        "figures": base / "figures" / "small",
        "data": three.folder / "data",
        "images": three.folder / "mine",
    }
    assert (base / "runs/small/run.json").exists()
    assert not (three.folder / "runs").exists()
    assert paths.root() == three.folder, "the environment is as it was"


def test_what_a_users_start_up_defines_is_no_parameter_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither PYTHONSTARTUP nor an IPython profile reaches a notebook."""
    startup = tmp_path / "ipython" / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("unrelated = 7")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(startup))
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    read = "from ltgate.params import from_namespace\nfrom_namespace(globals())"
    write_notebook(tmp_path / "one.ipynb", "name = 'one'", read)
    with jupyter.this_kernel(Params(name="one")):
        jupyter.run_notebook(tmp_path / "one.ipynb", {}, tmp_path / "out.ipynb")


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
        (["--set", "etta=1"], "unknown parameter 'etta', did you mean 'eta'?"),
        (["--set", "eta='1e-3'"], "eta = '1e-3': must be a finite number >= 0; this is text"),
        (["--set", "device=cuda:99"], "device = 'cuda:99': PyTorch "),
        (["--set", "eta"], "--set eta: must be name=value"),
        (["--set", "=1"], "--set =1: must be name=value"),
        (["--set", "eta=[1"], "--set eta=[1: the value is not valid YAML"),
        (["--set", "eta="], "eta = None: must be a finite number"),
        (["--only", "07"], "--only 07: no notebook '07'; there are 01, 02, 03"),
        (["--only", "01,x"], "--only 01,x: no notebook '0x'"),
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


def test_a_wrong_second_file_is_refused_before_the_first_runs(three: World, capsys) -> None:
    assert three.run(three.params("good"), three.params("bad", etta=1)) == 2
    assert "bad.yaml: unknown parameter 'etta'" in capsys.readouterr().err
    assert three.names == []


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


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"nbformat": 3, "worksheets": []}'])
def test_a_broken_notebook_is_refused(three: World, capsys, text: str) -> None:
    (three.folder / "notebooks" / "02_second.ipynb").write_text(text)
    assert three.run(three.params()) == 2
    assert "02_second.ipynb: not a readable notebook" in capsys.readouterr().err


def test_no_notebooks_is_refused(world: World, capsys) -> None:
    assert world.run(world.params()) == 2
    assert "holds no numbered notebooks" in capsys.readouterr().err


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
    assert "02_second  time unknown, never measured (did not finish)" in capsys.readouterr().out


def test_a_killed_rerun_makes_the_later_notebooks_run(three: World) -> None:
    three.run(three.params())
    three.fails["02_second"] = KeyboardInterrupt()
    three.run(three.params(), "--only", "02", "--force")
    three.run(three.params(), "--only", "03")
    assert three.names == ["03_third"]


# -------------------------------------------------------------------------- record, expectation


def test_the_record_tells_what_was_run_where_and_for_how_long(three: World) -> None:
    three.run(three.params(seeds=[0, 1]))
    record = json.loads((three.folder / "runs/small/run.json").read_text())
    params = Params(name="small", seeds=[0, 1])
    assert record["parameters"] == params.model_dump() and record["hash"] == params.hash
    assert record["seeds"] == [0, 1] and record["version"] and record["commit"]
    assert record["libraries"]["python"].startswith(f"3.{sys.version_info.minor}.")
    assert record["libraries"]["numpy"] and record["libraries"]["papermill"]
    assert record["machine"]["cores"] >= 1 and record["machine"]["memory_gb"] > 0
    assert record["machine"]["cpu"] and record["machine"]["gpu"]
    assert list(record["notebooks"]) == ["01_first", "02_second", "03_third"]
    for entry in record["notebooks"].values():
        assert entry["status"] == "done" and entry["seconds"] >= 0 and entry["megabytes"] > 0


def test_the_commit_is_unknown_outside_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "published", lambda: tmp_path)
    assert provenance.commit() == "unknown"


def test_expectations_come_from_the_last_run_else_from_the_table(three: World, capsys) -> None:
    header = "name,notebook,seconds,megabytes,machine\n"
    three.params()
    (three.folder / "params/expected.csv").write_text(
        header + "small,01_first,200,3.5,a big machine\nother,02_second,1,1,x\n"
    )
    three.fails["02_second"] = NotebookFailed("stop")
    three.run(three.params())
    said = capsys.readouterr().out
    assert "01_first   about 3 min 20 s as on a big machine (not run yet)" in said
    assert "02_second  time unknown, never measured" in said
    assert "expected: 3 min 20 s, and 2 of unknown time; 4 MB of disk, " in said
    record = run_record.read("small")
    record["notebooks"]["01_first"]["seconds"] = 7320.0
    run_record.write(record)
    three.run(three.params(), "--force")
    assert "01_first   about 2 h 02 min as last time (forced)" in capsys.readouterr().out


def test_measured_times_go_into_the_table(three: World) -> None:
    three.run(three.params("other"))
    three.run(three.params())
    assert __main__.main(["expected", "other"]) == 0
    assert __main__.main(["expected", "small"]) == 0
    assert __main__.main(["expected", "small"]) == 0, "again, in place of the old rows"
    rows = claims.costs()
    assert [(row["name"], row["notebook"]) for row in rows] == [
        (name, notebook)
        for name in ("other", "small")
        for notebook in ("01_first", "02_second", "03_third")
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
    figure = three.folder / "figures/small/bars.pdf"
    figure.parent.mkdir(parents=True)
    figure.write_text("figure")
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


def test_a_real_kernel_that_dies_is_a_failure(world: World, capsys) -> None:
    world.notebook("01_first", "name = 'smoke'", "import os\nos.kill(os.getpid(), 9)")
    assert world.run(world.params()) == 1
    assert "01_first: its process died: killed, or out of memory" in capsys.readouterr().err
