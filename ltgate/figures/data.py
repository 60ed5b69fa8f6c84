"""What the network is shown."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ltgate.figures import style
from ltgate.figures.figure import figure


@figure("task", "label", "image", "time_ms", "drive")
def tasks_and_frames(frame: pd.DataFrame) -> Figure:
    """Each task's images, and the drive of one image over time.

    One row a sample: ``task``; ``label``, its class; ``image``, an array of bytes [height, width]
    or [channels, height, width] (three are drawn as colours, of others the mean); ``time_ms`` and
    ``drive``, arrays [T]: the start of each step and the factor (no unit) on the pixels' current.
    The first five samples of a task and the first one's drive are drawn.
    """
    tasks = list(frame["task"].unique())
    wide = {"width_ratios": [1] * 5 + [6]}
    fig, axes = style.panels(len(tasks), 6, 9, 0.4 + 1.5 * len(tasks), gridspec_kw=wide)
    last_ms = max(float(np.max(times)) for times in frame["time_ms"])
    for row, task, colour in zip(axes, tasks, style.SERIES * len(tasks), strict=False):
        samples = frame[frame["task"] == task]
        for axis in row[:5]:
            axis.axis("off")
        for axis, (_, sample) in zip(row[:5], samples.iterrows(), strict=False):
            axis.imshow(_drawn(sample["image"]), cmap="gray_r", vmin=0, vmax=255)
            axis.set_title(str(sample["label"]))
        time_ms, drive = map(np.asarray, samples.iloc[0][["time_ms", "drive"]])
        steps = drive > 0
        row[5].vlines(time_ms[steps], 0, drive[steps], color=colour, linewidth=0.8, snap=False)
        row[5].set(title=f"{task}: {steps.sum()} steps with input", ylabel="drive")
        row[5].set(xlim=(-0.02 * last_ms, 1.08 * last_ms), ylim=(0, 1.1 * max(1, drive.max())))
    axes[-1, 5].set_xlabel("time from the start of the sample (ms)")
    return fig


def _drawn(image: np.ndarray) -> np.ndarray:
    """An image as Matplotlib takes it."""
    if image.ndim == 2:
        return image
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(0)
