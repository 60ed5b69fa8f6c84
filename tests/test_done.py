"""What is done: whole, made by this code and from these inputs; every kind of kept thing.

The runner's outputs: ``test_runner.py``; damaged checkpoints: ``test_checkpoint.py``.
"""

import ast
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from processes import run_python
from small_grid import PARAMS, small_grid

import ltgate
from ltgate import backends, checkpoint, done, files, grid, paths, provenance, results, train
from ltgate.data import idx, open_task, store
from ltgate.errors import UserError
from ltgate.grid import execution
from ltgate.params import Params
from ltgate.plasticity.filters import Filters

# What training imports and no learned number depends on.
HARMLESS = {
    "__init__": "the version",
    "done": "says what is done, and has this list",
    "errors": "kinds of errors",
    "files": "whole files, locks and checksums",
    "homes": "folders of other libraries' caches",
    "lazy": "imports names when they are used",
    "provenance": "notes what was run",
    "parameter_files": "what a file gives is in the record of the result",
    "paths": "where things lie",
    "progress": "bars",
    "stages": "labels of a profiler, and times",
    "statistics": "tables of result rows that are there",
}
# Rooms of which only the declaration of parameters is loaded; values are in a result's record.
DECLARING = {
    "grid", "grid.parameters", "loihi", "loihi.chip_parameters", "perf", "perf.bench_parameters",
}  # fmt: skip


def named(package: Path, file: Path) -> set[str]:
    """Modules of the library that a file imports, wherever in it, or names in a string."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
    parts = [name.split(".")[1:] for name in found if name.startswith("ltgate.") and name[7:]]
    return {
        ".".join(part)
        for part in parts
        if package.joinpath(*part).is_dir() or package.joinpath(*part).with_suffix(".py").is_file()
    }


def forgotten(package: Path) -> set[str]:
    """Modules and packages that learning code uses and neither list names."""
    listed = {name.removesuffix(".py") for name in done.LEARNING}
    files = [
        file
        for name in listed
        for file in [*(package / name).rglob("*.py"), (package / name).with_suffix(".py")]
        if file.is_file()
    ]
    used = {name.split(".")[0] for file in files for name in named(package, file)}
    return used - listed - HARMLESS.keys()


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of the library, which is taken for the real one."""
    folder = tmp_path / "ltgate"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(ltgate.__file__).parent, folder, ignore=ignored)
    monkeypatch.setattr(ltgate, "__file__", str(folder / "__init__.py"))
    return folder


# the code


def test_the_list_names_what_there_is():
    package = Path(ltgate.__file__).parent
    assert all((package / name).exists() for name in done.LEARNING)
    assert not {name.removesuffix(".py") for name in done.LEARNING} & HARMLESS.keys()


def test_no_module_that_learning_uses_is_forgotten(copy):
    assert forgotten(copy) == set()


@pytest.mark.parametrize(
    "line", ["import ltgate.new", "def f():\n    from ltgate import new", "NAME = 'ltgate.new:New'"]
)
def test_a_new_module_that_learning_uses_is_found(copy, line):
    (copy / "new.py").write_text("")
    with open(copy / "plasticity" / "readout.py", "a") as file:
        file.write(f"\n{line}\n")
    assert forgotten(copy) == {"new"}


def test_what_a_training_has_loaded_is_on_the_list(tmp_path, home, cache):
    """Imported in the end, by whatever way; in a process of its own."""
    program = f"""
import sys
from ltgate import train
from ltgate.params import Params
methods = ["lt_gate", "hlop", "dsd_snn", "replay"]
for trial in train.trials(Params(name="small", methods=methods, seeds=[0], **{PARAMS!r})):
    train.run_trial(trial)
print(*(name for name in sys.modules if name.startswith("ltgate.")))
"""
    printed = run_python(program).splitlines()[-1]
    modules = {name.removeprefix("ltgate.") for name in printed.split()}
    loaded = {name.split(".")[0] for name in modules - DECLARING}
    listed = {name.removesuffix(".py") for name in done.LEARNING}
    assert {"train", "methods", "surrogate", "backends", "plasticity"} <= loaded
    assert loaded <= listed | HARMLESS.keys()


def test_a_comment_changes_the_fingerprint_of_learning_code_alone(copy):
    def code() -> str:
        done._code.cache_clear()
        return done.code()

    before, changed = code(), set()
    for file in sorted(copy.rglob("*.py")):
        text = file.read_text()
        file.write_text(text + "# a comment\n")
        if code() != before:
            changed.add(file.relative_to(copy).parts[0])
        file.write_text(text)
    assert code() == before
    assert changed == done.LEARNING


# files


def rewritten(file: Path) -> None:
    """One bit is another; size, time and number are as before."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    with open(file, "r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    now = file.stat()
    assert [now.st_size, now.st_mtime_ns, now.st_ino] == [
        before.st_size, before.st_mtime_ns, before.st_ino
    ]  # fmt: skip


@pytest.mark.parametrize("coarse", [2, -1], ids=["just written", "written long ago"])
def test_a_file_rewritten_under_equal_size_and_time_is_noticed(tmp_path, monkeypatch, coarse):
    monkeypatch.setattr(files, "COARSE_S", coarse)
    read, plain = [], files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: (read.append(path), plain(path))[1])
    file = tmp_path / "images"
    file.write_bytes(b"abc")
    before = {"images": done.content(file)}
    assert done.differing(before, tmp_path) == ""
    assert len(read) == (2 if coarse > 0 else 1)
    rewritten(file)
    assert done.differing(before, tmp_path) == "images"
    file.write_bytes(b"abc")
    assert done.differing(before, tmp_path) == ""
    file.unlink()
    assert done.differing(before, tmp_path) == "images"


def test_a_folder_is_known_by_the_list_of_its_files(tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "a.bin").write_bytes(b"abc")
    before = done.content(tmp_path)
    rewritten(tmp_path / "3" / "a.bin")
    done._listing.cache_clear()  # another process
    assert done.content(tmp_path) != before
    before = done.content(tmp_path)
    (tmp_path / "3" / "b.bin").write_bytes(b"")
    assert done.content(tmp_path) != before


# rows


def some_rows(folder: Path, key: str = "a", inputs: dict | None = None) -> Path:
    trial = train.Trial(Params(), "lt_gate", 0)
    rows = [train.row(trial, "test", "class", i, "fast", "accuracy", 0.5) for i in range(2)]
    return results.write(folder, key, rows, done.record(inputs))


@pytest.fixture
def other_code(monkeypatch):
    """A function after whose call the library has another code."""
    return lambda: monkeypatch.setattr(done, "code", lambda: "another one")


def cut_line(path: Path, _: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))


BAD = {
    "cut at a line's end": cut_line,
    "empty": lambda path, _: path.write_text(""),
    "no record": lambda path, _: path.with_suffix(".json").unlink(),
    "a cut record": lambda path, _: path.with_suffix(".json").write_text("{"),
    "an earlier record": lambda path, _: path.with_suffix(".json").write_text('{"hash": "1"}'),
    "other images": lambda _, image: rewritten(image),
    "no images": lambda _, image: image.unlink(),
    "other code": None,
}


@pytest.mark.parametrize("what", BAD)
def test_rows_are_done_if_whole_and_of_this_code_and_these_images(
    tmp_path, what, other_code, monkeypatch
):
    image = tmp_path / "image"
    image.write_bytes(b"abc")
    path = some_rows(tmp_path, inputs={str(image): done.content(image)})
    assert results.exists(tmp_path, "a") and len(results.load(tmp_path)) == 2
    other_code() if BAD[what] is None else BAD[what](path, image)
    monkeypatch.delenv("LTGATE_PROGRESS", raising=False)
    assert not results.exists(tmp_path, "a")
    with pytest.warns(UserWarning, match="1 of 1 files of rows are left out"):
        assert results.load(tmp_path).empty
    with pytest.raises(UserError, match=r"a\.csv: .* has changed since; run it again"):
        results.load(tmp_path, "a")


# trials and what they cache


@pytest.fixture
def trial(home, monkeypatch) -> train.Trial:
    """A small trial on images of one's own, in a fresh folder."""
    monkeypatch.setenv("LTGATE_DATA_CACHE", str(home / "data"))
    random = np.random.default_rng(0)
    images, labels = (
        random.integers(0, 256, (80, 28, 28), np.uint8),
        np.arange(80, dtype=np.uint8) % 5,
    )
    source = idx.save(home / "images", (images, labels), (images, labels))
    return train.Trial(Params(name="small", source=source, **PARAMS), "lt_gate", 0)


@pytest.fixture
def work(monkeypatch) -> list[str]:
    """What is computed and not found: filters, forward passes, HDF5 files."""
    made = []
    for owner, name in ((Filters, "make"), (backends, "forward"), (store, "_build")):
        plain = getattr(owner, name)

        def noted(*arguments, plain=plain, name=name, **options):
            made.append(name)
            return plain(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)
    return made


def test_a_trial_and_its_caches_are_done_once_for_a_code(trial, work, other_code):
    """Without any run.json; caches are asked in a run of their own."""
    folder = paths.run("small")
    train.run_trial(trial)
    assert {"make", "forward", "_build"} <= set(work)
    work.clear()
    train.run_trial(trial)
    assert work == [] and trial.has(1)
    shutil.rmtree(folder)
    train.run_trial(trial)
    assert work == [], "all is cached"
    other_code()
    assert not results.exists(folder, trial.key) and not trial.has(1)
    with pytest.raises(UserError, match="the learning code has changed since; train it again"):
        trial.restore("task1.safetensors")
    train.run_trial(train.Trial(trial.params, "lt_gate", 0))
    assert {"make", "forward", "_build"} <= set(work) and trial.has(1)
    assert results.exists(folder, trial.key)


def test_replaced_images_make_a_trial_anew(trial):
    folder, images = paths.run("small"), Path(trial.params.source.partition(":")[2])
    train.run_trial(trial)
    for pool in ("train", "t10k"):
        rewritten(images / f"{pool}-images-idx3-ubyte")
        assert not results.exists(folder, trial.key)
        assert trial.has(1) == (pool == "t10k"), "no snapshot depends on test images"
        train.run_trial(train.Trial(trial.params, "lt_gate", 0))
        assert results.exists(folder, trial.key)


def test_training_does_not_go_on_from_a_checkpoint_of_other_code(trial, other_code, monkeypatch):
    monkeypatch.setattr(checkpoint, "keep", lambda *_: None)
    train.train(trial, positions=1)
    assert sorted(trial.folder.glob("last-*"))
    begun = []
    plain = type(trial.learner()).begin_task
    monkeypatch.setattr(
        type(trial.learner()), "begin_task",
        lambda self, position, images: (begun.append(position), plain(self, position, images))[1],
    )  # fmt: skip
    train.train(trial)
    assert begun == [1]
    other_code()
    train.train(train.Trial(trial.params, "lt_gate", 0))
    assert begun == [1, 0, 1]


def test_a_task_file_of_other_code_is_built_anew(trial, work, other_code):
    open_task(trial.params, trial.tasks[0], "train", 0)
    other_code()
    open_task(trial.params, trial.tasks[0], "train", 0)
    open_task(trial.params, trial.tasks[0], "train", 0)
    assert work == ["_build"] * 2


def test_a_grid_that_goes_on_under_other_code_mixes_nothing(home, cache, other_code, monkeypatch):
    """It ends after half of its trials; the code changes; the same call makes all of them."""
    made = small_grid(home)
    jobs = list(made.jobs())
    with monkeypatch.context() as patch:
        patch.setattr(grid.Grid, "jobs", lambda *_: iter(jobs[:2]))
        assert grid.run(made)["done"] == 2
    other_code()
    assert list(grid.points(made)["stale"]) == [True, True, False, False]
    assert grid.points(made)["acc"].isna().all()
    assert grid.run(made) == {"done": 4, "failed": 0, "skipped": 0}
    assert grid.table(made)["stale"].sum() == 0
    codes = {
        files.read_json(f)["code"] for f in (execution.folder("small") / "results").glob("*.json")
    }
    assert codes == {"another one"}


# where a result comes from


@pytest.mark.parametrize("body", ["#!/bin/sh\nprintf '\\377 bad'", "#!/nonexistent/interpreter"])
def test_optional_information_ends_nothing(body: str, tmp_path: Path, monkeypatch) -> None:
    """A broken nvidia-smi is none."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(body)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert provenance.machine.__wrapped__()["gpu"] == "none"


def test_the_commit_is_unknown_outside_a_checkout(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(paths, "published", lambda: tmp_path)
    assert provenance.commit() == "unknown"
