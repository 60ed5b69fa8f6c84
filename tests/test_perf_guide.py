"""The performance guide: every bullet has a row, every row an answer."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_bench import small_bench

from ltgate.perf import guide
from ltgate.perf.bench import EPOCH_BATCHES

BULLETS = Path(__file__).parent / "data" / "performance_guide_ids.txt"
ROWS = guide.read().set_index("id")


def bullets() -> dict[str, str]:
    """Id -> text of every bullet of the guide, as transcribed."""
    return dict(line.split("\t") for line in BULLETS.read_text().splitlines())


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The whole table, on a small network."""
    return guide.table(small_bench())


def test_every_bullet_of_the_guide_is_a_row() -> None:
    assert len(bullets()) == 73
    assert list(ROWS.index) == list(bullets())


@pytest.mark.parametrize("row", ROWS.index)
def test_numbers_of_a_row_are_those_of_its_bullet(row: str) -> None:
    words = set(re.findall(r"[0-9.]+", bullets()[row]))
    assert set(re.findall(r"[0-9.]+", ROWS.guide[row])) <= words
    if ROWS.unit[row] != "exponent":  # "linearly"
        bounds = {f"{value:g}" for value in ROWS.loc[row, ["guide_low", "guide_high"]].dropna()}
        assert bounds <= words
    assert np.isnan(ROWS.guide_low[row]) == np.isnan(ROWS.guide_high[row])


@pytest.mark.parametrize("row", ROWS.index)
def test_every_row_is_measured_or_has_a_reason(row: str) -> None:
    if ROWS.measured_by[row] == guide.TEXT:
        assert ROWS.verdict[row] in guide.VERDICTS and ROWS.note[row]
        assert not ROWS.value[row] and not ROWS.told[row]
    else:
        assert ROWS.value[row] and ROWS.told[row]
        assert ROWS.verdict[row] or not np.isnan(ROWS.guide_low[row])
    if ROWS.verdict[row] == "cannot be right":
        assert re.search("[0-9]", ROWS.note[row]), "the arithmetic is missing"


def test_every_row_is_answered(table: pd.DataFrame) -> None:
    assert list(table) == guide.COLUMNS
    assert list(table["id"]) == list(bullets())
    assert set(table["verdict"]) <= set(guide.VERDICTS)
    for row in table.itertuples():
        if row.verdict == "not measured here":
            assert row.note, row.id
        else:
            assert row.measured != "", row.id
    rows = table.set_index("id")
    first = rows.loc["runtime.data.initial_load"]
    assert first.ratio == pytest.approx(first.measured / 12.5)  # the middle of its range
    assert np.isnan(rows.ratio["monitors.training.spikes"])
    grid = rows.loc["scaling.grid.combinations"]
    assert 0.5 < grid.measured < 1.5  # four times the work, about four times the time
    assert grid.verdict in ("holds", "does not hold")


@pytest.fixture
def rows_on_loihi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answers the rows on Loihi, when their published table lies in the test's folder."""
    monkeypatch.setattr(guide, "PUBLISHED", tmp_path)
    monkeypatch.setattr(guide.paths, "figures", lambda name: tmp_path / "none")
    bench = SimpleNamespace(params=SimpleNamespace(name="none"))

    def answers() -> pd.DataFrame:
        rows = ROWS.reset_index()
        return pd.DataFrame(
            guide.answer(row, guide.measure(row.measured_by, bench))
            for row in rows[rows["measured_by"].str.startswith("guide.loihi")].itertuples()
        ).set_index("id")

    return answers


def test_rows_on_loihi_are_those_of_the_notebooks_table(tmp_path: Path, rows_on_loihi: Any) -> None:
    numbers = {
        "quantise_seconds": 0.3, "lava_build_seconds": 1.2, "lava_peak_bytes": 2e8,
        "latency_fast": 0.013, "dynamic_energy_fast": 6e-4, "core_share": 0.26,
        "memory_per_core_bytes": 4e4, "setup_seconds": 1.5, "twin_seconds_per_sample": 0.02,
        "twin_seconds_per_1000": 20, "lava_build_share_per_layer": 0.1, "weight_bits": 8,
        "accuracy_loss_chip_aware": 0.1, "accuracy_loss_full_precision": 0.4,
        "lava_batch_speedup": 3, "traffic_share_fast": 0.01, "search_energy_saved": 0.2,
    }  # fmt: skip
    frame = pd.DataFrame({"metric": numbers.keys(), "value": numbers.values()})
    frame = frame.assign(low=frame["value"], high=frame["value"], unit="", kind="estimate",
                         source="somewhere")  # fmt: skip
    frame.to_csv(tmp_path / "table_loihi.csv", index=False)
    rows = rows_on_loihi()
    assert rows.measured["loihi.inference.energy"] == pytest.approx(6e8)  # pJ
    assert rows.verdict["loihi.inference.energy"] == "worse"
    assert rows.verdict["loihi.inference.cores"] == "holds"
    assert rows.verdict["loihi.compilation.quantization"] == "better"
    assert "estimate: somewhere" in rows.note["loihi.inference.latency"]
    assert rows.verdict["tips.loihi.quantization"] == "holds"
    assert rows.verdict["limits.loihi.communication"] == "does not hold"


def test_what_the_notebooks_table_lacks(tmp_path: Path, rows_on_loihi: Any) -> None:
    rows = rows_on_loihi()
    assert set(rows["verdict"]) == {"not measured here", "cannot be right"}
    assert rows["note"].str.contains("05_loihi2|30 s and 1000").all()
    lines = ["metric,value,low,high,unit,kind,source", "weight_bits,8,8,8,bit,exact,here"]
    (tmp_path / "table_loihi.csv").write_text("\n".join(lines))
    rows = rows_on_loihi()
    assert rows.verdict["limits.loihi.weights"] == "holds"
    assert rows.verdict["loihi.compilation.network"] == "not measured here"
    assert "has no lava_build_seconds" in rows.note["loihi.compilation.network"]
    assert rows.verdict["loihi.measurement.total"] == "cannot be right"


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (9.9, 10, 15, "better"), (10, 10, 15, "holds"), (15, 10, 15, "holds"),
        (15.1, 10, 15, "worse"), (3.9, 5, 5, "better"), (4.1, 5, 5, "holds"), (6.1, 5, 5, "worse"),
    ],
)  # fmt: skip
def test_verdict_on_a_cost(value: float, low: float, high: float, verdict: str) -> None:
    assert guide.judge(value, low, high) == verdict


def test_the_contradictions_are_contradictions() -> None:
    """The arithmetic of the notes, from the guide's own numbers."""
    rows = ROWS.guide_high
    updates = rows["runtime.learning.update"] + rows["runtime.learning.weights"]
    milliseconds = rows["runtime.data.batch"] + rows["runtime.forward.time"] + updates
    assert milliseconds == 12
    for task, batches in EPOCH_BATCHES.items():
        seconds = batches * milliseconds / 1e3
        assert round(seconds) == 9
        assert seconds < 60 * ROWS.guide_low[f"runtime.epoch.{task}"] / 10
    assert round(765 * (milliseconds - 2) / 1e3) == 8  # loading hidden
    neurons = 28 * 28 * 16 + 14 * 14 * 32 + 7 * 7 * 64 + 256
    spikes = neurons * 32 * 200 * 0.05
    assert round(spikes / 1e6) == 7
    assert spikes / 1000 * ROWS.guide_low["runtime.forward.spikes"] > 1e3 * 5
    total = rows["loihi.measurement.setup"] + 1000 * rows["loihi.measurement.sample"] / 1e3
    assert total == 40 < 60 * rows["loihi.measurement.total"]
    assert 4 * rows["network.layer.update"] == 8 > updates == 5


def test_load_of_a_gpu_comes_from_nvidias_library(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = SimpleNamespace(forward=lambda: None)
    bench: Any = SimpleNamespace(device="cuda", workloads={"fast": fast})
    monkeypatch.setattr(torch.cuda, "utilization", lambda: 50)
    monkeypatch.setattr(torch.cuda, "device_memory_used", lambda: 2_000_000_000)
    assert guide.measure("machine.gpu_load", bench) == {"load": "50% busy, 2.00 GB"}

    def missing() -> int:
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "utilization", missing)
    assert "nvidia-ml-py is not installed" in str(guide.measure("machine.gpu_load", bench))
