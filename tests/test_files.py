"""Files: whole or absent on every disk, locks that name their holder, broken JSON is none."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from processes import ROOT, run_python

from ltgate import __main__, checkpoint, figures, files
from ltgate.errors import UserError


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_what_a_disk_refuses_is_told_in_one_line(tmp_path, code):
    path = tmp_path / "table.csv"
    path.write_text("earlier")
    with pytest.raises(UserError) as caught, files.atomic(path) as temporary:
        temporary.write_text("half")
        raise OSError(code, os.strerror(code))
    told = f"{path}: cannot be written ({os.strerror(code)}); nothing there has changed"
    assert str(caught.value) == told
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(UserError, match="Read-only"), files.atomic(tmp_path / "a"):
        pass


WRITERS = {
    "checkpoint": lambda path: checkpoint.save(path, {"a": torch.zeros(100_000)}, {}),
    "table": lambda path: pd.DataFrame({"a": range(50_000)}).to_csv(path),
    "HDF5": lambda path: (
        h5py.File(path, "w").create_dataset("a", data=np.zeros(100_000)).file.close()
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_stops_every_writer_in_one_line(tmp_path, name):
    """A limit on the size of files stands for the disk, in a process of its own."""
    path = tmp_path / "file"
    path.write_text("earlier")
    program = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from test_files import WRITERS, files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    if {name!r} == "checkpoint":
        WRITERS[{name!r}]({str(path)!r})
    else:
        with files.atomic({str(path)!r}) as temporary:
            WRITERS[{name!r}](temporary)
except files.UserError as error:
    print(error, flush=True)
files.os._exit(0)  # HDF5 complains at an ordinary end
"""
    told = f"{path}: cannot be written (File too large); nothing there has changed\n"
    assert run_python(program) == told
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_goes_and_nothing_else(tmp_path):
    """Whatever the clocks say; a live writer's, another machine's and other programs' stay."""
    program = "import sys, os, ltgate.files as f\nwith f.atomic(sys.argv[1]): os._exit(0)"
    run_python(program, tmp_path / "killed.csv")
    (left,) = tmp_path.iterdir()
    others = [".tmp-other.csv", ".tmpAb3", left.name.replace(files.platform.node(), "elsewhere")]
    for name in others:
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (0, 0))
    with files.atomic(tmp_path / "b.csv") as live:
        live.write_text("whole")
        os.utime(live.parent, (0, 0))
        assert not left.exists()
        with files.atomic(tmp_path / "a.csv") as temporary:
            temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "a.csv", "b.csv"])


def test_who_may_read_a_file_is_as_the_umask_has_it(tmp_path):
    before = os.umask(0o027)
    try:
        checkpoint.save(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640


def test_only_plain_files_are_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "."):
        with pytest.raises(UserError, match="only plain files are replaced"):
            files.write_json(tmp_path / name, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_who_waits_is_told_for_whom(tmp_path, capsys):
    path = tmp_path / "some.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import time\nfrom ltgate.files import lock\n"
         f"with lock({str(path)!r}):\n print(flush=True); time.sleep(0.5)"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    holder.stdout.readline()
    with pytest.raises(BlockingIOError), files.lock(path, wait=False):
        pass
    with files.lock(path):
        assert f"process {os.getpid()} on " in files.holder(path)
    assert f"{path}: waiting for process {holder.pid} on " in capsys.readouterr().err
    holder.communicate()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_with_what_to_do(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "some.lock"
    with pytest.raises(UserError) as caught, files.lock(path):
        pass
    told = f"{path}: this file system has no locks ({os.strerror(code)}); "
    assert str(caught.value).startswith(told)
    assert "LTGATE_HOME" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_in_place_of_a_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with pytest.raises(UserError, match="cannot be written"), files.atomic(path):
            pass
        with pytest.raises(UserError, match="cannot be written"), files.lock(path):
            pass


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000, b"3"])
def test_json_that_is_no_mapping_counts_as_none(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert files.read_json(tmp_path / "a.json") == {}


def test_only_what_is_the_project_s_own_is_deleted_or_written_through(home, capsys):
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep").write_text("mine")
    (home / "runs").mkdir()
    for link in (home / "runs" / "linked", home / "figures"):
        link.symlink_to(elsewhere)
    assert __main__.main(["clean", "linked"]) == 2
    assert "is a link to" in capsys.readouterr().err
    with pytest.raises(UserError, match="is a link to"):
        figures.save_table(pd.DataFrame({"a": [1]}), home / "figures", "table_a")
    assert [path.name for path in elsewhere.iterdir()] == ["keep"]
