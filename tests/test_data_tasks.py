"""Schedules worked out by hand, and what holds for all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate.data import PRESENTATIONS, schedule
from ltgate.data.tasks import FAST, TaskSpec
from ltgate.errors import UserError


def task(rate, duration):
    return TaskSpec(name="t", classes=[0], frame_rate_hz=rate, duration_ms=duration)


def ones_at(length, *steps):
    drive = np.zeros(length)
    drive[list(steps)] = 1
    return drive.tolist()


@pytest.mark.parametrize(
    "rate, duration, presentation, dt, drive",
    [
        # 50 Hz: a frame every 20 ms
        (50.0, 60.0, "frame", 20.0, [1, 1, 1]),
        (50.0, 60.0, "as_coded", 1.0, [1, 1, 1]),
        (50.0, 60.0, "pulse", 1.0, ones_at(60, 0, 20, 40)),
        (50.0, 60.0, "hold", 1.0, [1] * 60),
        # 1000 Hz: a frame every step, so all presentations agree
        *((1000.0, 5.0, name, 1.0, [1] * 5) for name in PRESENTATIONS),
        # 4000 Hz: four frames start in every millisecond
        (4000.0, 3.0, "frame", 0.25, [1] * 12),
        (4000.0, 3.0, "as_coded", 1.0, [1] * 12),
        (4000.0, 3.0, "pulse", 1.0, [4, 4, 4]),
        (4000.0, 3.0, "hold", 1.0, [1, 1, 1]),
        # 12.5 Hz: a frame every 80 ms
        (12.5, 240.0, "frame", 80.0, [1, 1, 1]),
        (12.5, 240.0, "pulse", 1.0, ones_at(240, 0, 80, 160)),
        # frames that start between milliseconds: 0, 3.33, 6.67 and 0, 0.67, 1.33, 2, 2.67, 3.33
        (300.0, 10.0, "pulse", 1.0, ones_at(10, 0, 3, 6)),
        (1500.0, 4.0, "pulse", 1.0, [2, 1, 2, 1]),
        # frame 1 starts at 2.9999999999999996 ms, by rounding only
        (333.3333333333334, 9.0, "pulse", 1.0, ones_at(9, 0, 3, 6)),
        # 2.5 ms are 2 steps, but the frames at 2.0 and 2.25 ms keep their charge
        (4000.0, 2.5, "pulse", 1.0, [4, 4, 2]),
    ],
)
def test_by_hand(rate, duration, presentation, dt, drive):
    result = schedule(task(rate, duration), presentation)
    assert result.name == presentation
    assert result.dt_ms == dt
    assert result.frame_interval_ms == 1000 / rate
    assert result.drive.dtype == np.float32
    assert result.drive.tolist() == drive
    assert len(result) == len(drive)


@settings(max_examples=200, deadline=None)
@given(rate=st.floats(1, 8000), duration=st.floats(1, 500))
def test_for_every_task(rate, duration):
    if round(rate * duration / 1000) < 1:
        with pytest.raises(UserError, match="0 frames"):
            task(rate, duration)
        return
    spec = task(rate, duration)
    by_name = {name: schedule(spec, name) for name in PRESENTATIONS}
    assert len(by_name["frame"]) == len(by_name["as_coded"]) == spec.frames
    assert by_name["frame"].dt_ms * rate == pytest.approx(1000)
    assert len(by_name["hold"]) == round(duration)
    pulse = by_name["pulse"].drive
    assert pulse.sum() == spec.frames
    assert pulse[0] >= 1
    assert len(pulse) in (round(duration), round(duration) + 1)
    # step of frame k, asked of every frame: its start lies in [step, step + 1)
    step = np.repeat(np.arange(len(pulse)), pulse.astype(int))
    start = np.arange(spec.frames) * 1000 / rate
    assert np.all(step - 1e-6 <= start) and np.all(start < step + 1)


def test_unknown_presentation():
    with pytest.raises(UserError, match="'strobe'; allowed are frame, pulse, hold, as_coded"):
        schedule(FAST, "strobe")
