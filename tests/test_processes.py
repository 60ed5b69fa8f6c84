"""Work side by side: results in order, what goes wrong in one line, nothing left running."""

import os
import signal
import time
import warnings
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from ltgate import paths, progress, registry, results, train
from ltgate.errors import UserError
from ltgate.params import Params
from ltgate.plasticity.gate import GATES
from ltgate.processes import side_by_side


def about(number: int) -> tuple[int, int, int, str]:
    """What a process says of itself; one process gets no later item."""
    time.sleep(0.2)
    warnings.warn(f"item {number}", stacklevel=1)
    return number, os.getpid(), torch.get_num_threads(), os.environ["LTGATE_HOME"]


def third(folder: Path, dies: bool, number: int) -> int:
    """Leave a note of the process that is at an item; the third item's dies, or raises."""
    (folder / str(number)).write_text(str(os.getpid()))
    time.sleep(0.05)
    if number == 2:
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("item 2: no")
    return number


def test_items_run_in_processes_of_one_thread_under_the_callers_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    told = []
    monkeypatch.setattr(progress, "tell", told.append)
    found = side_by_side(about, range(4), 2)
    assert sorted(told) == [f"item {number}" for number in range(4)]
    numbers, processes, threads, homes = zip(*found, strict=True)
    assert numbers == (0, 1, 2, 3)
    assert len(set(processes)) == 2 and os.getpid() not in processes
    assert set(threads) == {1} and set(homes) == {str(tmp_path)}
    assert not any(psutil.pid_exists(process) for process in set(processes))


def test_one_at_a_time_they_run_here_on_one_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.warns(UserWarning, match="item"):
            found = side_by_side(about, [5], 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found == [(5, os.getpid(), 1, str(tmp_path))]


@pytest.mark.parametrize(
    ("dies", "text"), [(True, r"killed \(exit status -9\)"), (False, "^item 2: no$")]
)
def test_what_goes_wrong_is_one_line_and_ends_the_others(dies, text, tmp_path):
    with pytest.raises(UserError, match=text):
        side_by_side(partial(third, tmp_path, dies), range(50), 2, "trials")
    begun = list(tmp_path.iterdir())
    assert len(begun) < 50  # the rest never began
    assert not any(psutil.pid_exists(int(file.read_text())) for file in begun)


def test_rows_are_the_same_however_many_processes(monkeypatch, tmp_path, cache):
    small = {
        "train_images": 24, "validation_images": 8, "test_images": 8, "channels": [2, 2, 2],
        "hidden": [4], "hebbian_images": 8, "control": False, "seeds": [0, 1],
        "methods": ["lt_gate", "lt_gate_published"], "keep_features": False,
    }  # fmt: skip
    frames = []
    for threads in (1, 2):
        monkeypatch.setenv("LTGATE_HOME", str(tmp_path / str(threads)))
        params = Params(name="two", threads=threads, **small)
        assert train.at_once(train.trials(params)) == threads
        train.run(params)
        frames.append(results.load(paths.run("two")))
    assert len(frames[0]) > 0 and frames[0].equals(frames[1])


def test_a_rule_of_this_process_alone_keeps_the_work_here(monkeypatch):
    trials = train.trials(Params(threads=2))
    assert not registry.extended()
    monkeypatch.setitem(GATES, "mine", type("Mine", (), {"__module__": "__main__"}))
    assert registry.extended() and train.at_once(trials) == 1
