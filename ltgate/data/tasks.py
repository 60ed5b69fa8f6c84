"""How the frames of a sample are laid out in time.

A sample is one image shown as ``T = round(duration_ms * frame_rate_hz / 1000)`` frames. A
presentation decides which clock the network runs on while it sees them:

=========  ==========  ====================================================================
name       step        input current at each step, in units of the image
=========  ==========  ====================================================================
frame      1000/rate   1: one step per frame, decays over the frame interval
pulse      1 ms        the number of frames that start in this step: a frame's charge at once
hold       1 ms        1: each frame is held until the next
as_coded   1 ms        1: one step per frame, whatever its rate (the published code)
=========  ==========  ====================================================================
"""

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import model_validator

from ltgate.declare import Distinct, Group, Label, Name, OneOf, Positive, Some, Strict
from ltgate.errors import UserError

PRESENTATIONS = ("frame", "pulse", "hold", "as_coded")
MOST_FRAMES = 1_000_000  # of a sample, and its most milliseconds

_BOUNDARY_MS = 1e-9  # so close to the next millisecond a frame starts in it (rounding)


class TaskSpec(Strict):
    """A temporal task: some classes of the images, shown at one frame rate for one duration."""

    name: Name
    """short name, used in tables and file names"""
    classes: Annotated[list[Label], Some, Distinct]
    """classes of the image source, no repeats"""
    frame_rate_hz: Positive
    """frames per second (Hz)"""
    duration_ms: Positive
    """how long an image is shown (ms)"""

    @property
    def frames(self) -> int:
        """Number of frames of a sample, ``round(duration_ms * frame_rate_hz / 1000)``."""
        return round(self.duration_ms * self.frame_rate_hz / 1000)

    @model_validator(mode="after")
    def _some_frames(self) -> Self:
        given = f"frame_rate_hz = {self.frame_rate_hz:g} for duration_ms = {self.duration_ms:g}"
        longest = max(self.duration_ms, self.duration_ms * self.frame_rate_hz / 1000)
        if longest > MOST_FRAMES:
            raise ValueError(f"{given}: at most {MOST_FRAMES:,} frames and ms are allowed")
        if self.frames < 1:
            raise ValueError(f"{given}: rounds to 0 frames, at least 1 is needed")
        return self


FAST = TaskSpec(name="fast", classes=[0, 1, 2, 3, 4], frame_rate_hz=1000.0, duration_ms=200.0)
SLOW = TaskSpec(name="slow", classes=[5, 6, 7, 8, 9], frame_rate_hz=50.0, duration_ms=400.0)


class TaskParameters(Group, late=True):
    """Tasks."""

    tasks: Annotated[list[TaskSpec], Some] = [FAST, SLOW]
    """tasks in learning order"""
    presentation: Annotated[str, OneOf(PRESENTATIONS)] = "frame"
    """how frames become time steps"""

    @model_validator(mode="after")
    def _possible_tasks(self) -> Self:
        owner: dict[int, str] = {}
        shared = len({frozenset(task.classes) for task in self.tasks}) == 1
        names = [task.name for task in self.tasks]
        for task in self.tasks:
            if names.count(task.name) > 1:
                raise ValueError(f"tasks: two are named {task.name!r}; names must differ")
            for label in task.classes:
                if label in owner and not shared:
                    raise ValueError(
                        f"tasks: class {label} is in both {owner[label]!r} and {task.name!r}; "
                        "a class belongs to one task, or all tasks have the same classes"
                    )
                owner[label] = task.name
            if self.presentation in ("pulse", "hold") and round(task.duration_ms) < 1:
                raise ValueError(
                    f"tasks: duration_ms = {task.duration_ms:g} of {task.name!r} rounds to 0 ms; "
                    f"presentation {self.presentation!r} needs at least 1"
                )
        return self


@dataclass(frozen=True, eq=False)
class Schedule:
    """One sample's clock: the input current at step t is ``drive[t] * pixels``.

    Attributes:
        name: The presentation.
        dt_ms: Length of a step in ms; the decays are computed over it.
        frame_interval_ms: 1000 / frame rate, in ms.
        drive: float32 [T].
    """

    name: str
    dt_ms: float
    frame_interval_ms: float
    drive: np.ndarray

    @property
    def charge_ms(self) -> float:
        """Time in ms for which the charge of one frame or spike stands.

        The step, except under ``pulse``, where one step carries the charge of a whole frame.
        """
        return self.frame_interval_ms if self.name == "pulse" else self.dt_ms

    def __len__(self) -> int:
        """Number T of steps."""
        return len(self.drive)


def schedule(task: TaskSpec, presentation: str) -> Schedule:
    """The clock of ``task``'s samples under ``presentation``.

    Raises:
        UserError: The presentation is unknown.
    """
    if presentation not in PRESENTATIONS:
        raise UserError(f"presentation={presentation!r}; allowed are {', '.join(PRESENTATIONS)}")
    interval = 1000 / task.frame_rate_hz
    milliseconds = max(round(task.duration_ms), 1)
    if presentation == "pulse":
        starts = np.floor(np.arange(task.frames) * 1000 / task.frame_rate_hz + _BOUNDARY_MS).astype(
            np.int64
        )
        # Above 1000 Hz a fractional duration can put the last frame past the rounded end: keep it.
        drive = np.bincount(starts, minlength=milliseconds)
    else:
        drive = np.ones(milliseconds if presentation == "hold" else task.frames)
    dt = interval if presentation == "frame" else 1.0
    return Schedule(presentation, dt, interval, drive.astype(np.float32))
