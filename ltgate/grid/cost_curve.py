r"""What a grid costs: time of all trials and on the clock, against its size.

Combinations and epochs per run are raised one at a time; every grid is run in a folder of its own,
so nothing is skipped. The exponent is that of :mod:`ltgate.growth`: 1 = linear.
"""

import contextlib
import io
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from distributed import Client

from ltgate import paths
from ltgate.errors import UserError
from ltgate.grid import clusters
from ltgate.grid.execution import run
from ltgate.grid.spec import Grid
from ltgate.grid.tables import points
from ltgate.growth import with_exponents

COLUMNS = ["sweep", "x", "quantity", "value", "unit", "exponent"]


def cost(
    grid: Grid,
    combinations: tuple[int, ...] = (1, 2, 4),
    epochs: tuple[int, ...] = (1, 2, 4),
    images: int = 32,
) -> pd.DataFrame:
    """Measured now, on so many training and validation ``images`` a task.

    As ``figures.scaling`` takes it: ``sweep``, what is varied; ``x``, its size; ``quantity``,
    ``trials`` (seconds of all trials together) or ``wall`` (seconds on the clock, the start of the
    workers not counted); ``value`` in ``unit`` s; ``exponent``.
    """
    few = {"train_images": images, "validation_images": images, "curve_points": 1}
    few["keep_features"] = False
    rows = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        _fresh(Path(scratch)),
        clusters.client(grid, max(combinations)) as client,
    ):
        _spent(grid, client, max(combinations), few)  # compiles, and makes the task files
        for number in combinations:
            found = _spent(grid, client, number, few | {"epochs": epochs[0]})
            rows += [("combinations", number, *values) for values in found]
        for passes in epochs:
            found = _spent(grid, client, 1, few | {"epochs": passes})
            rows += [("epochs per run", passes, *values) for values in found]
    return with_exponents(pd.DataFrame(rows, columns=COLUMNS[:-1]))


@contextlib.contextmanager
def _fresh(scratch: Path) -> Iterator[None]:
    """Runs go to ``scratch``; so does what is kept of networks, images are those that are there."""
    home, data = scratch / "home", scratch / "data"
    data.mkdir()
    for entry in paths.data().glob("*"):
        if entry.name != "features":
            (data / entry.name).symlink_to(entry)
    with paths.environment(LTGATE_HOME=str(home), LTGATE_DATA_CACHE=str(data)):
        yield


def _spent(
    grid: Grid, client: Client, number: int, overrides: dict[str, Any]
) -> list[tuple[str, float, str]]:
    """Quantity, seconds and unit of the first ``number`` configurations, all made anew."""
    chosen = list(itertools.islice(grid.configurations(**overrides), number))
    for left in (paths.run(grid.name), paths.data() / "features"):
        shutil.rmtree(left, ignore_errors=True)
    start = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        outcome = run(grid, chosen, client)
    wall = time.monotonic() - start
    if outcome["failed"]:
        raise UserError(f"grid {grid.name}: {points(grid, chosen)['error'].max()}")
    return [("trials", points(grid, chosen)["seconds"].sum(), "s"), ("wall", wall, "s")]
