"""Labels of stages, and the sums of their times."""

import pytest
import torch

from ltgate import stages


def test_stages_add_up_where_they_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(stages.time, "perf_counter", lambda: now[0])

    @stages.stage("update")
    def update(seconds: float) -> str:
        now[0] += seconds
        return "done"

    assert update(7.0) == "done"  # before: not counted
    with stages.seconds_by_stage() as sums:
        for _ in range(2):
            with stages.stage("loading"):
                now[0] += 0.5
            update(3.0)
        now[0] += 1.0
    update(9.0)
    assert sums == {"loading": 1.0, "update": 6.0}


@pytest.mark.filterwarnings("ignore")
def test_stages_are_labels_of_torchs_profiler() -> None:
    with torch.profiler.profile() as profiler, stages.stage("weight update"):
        torch.ones(1)
    assert "weight update" in {event.key for event in profiler.key_averages()}
