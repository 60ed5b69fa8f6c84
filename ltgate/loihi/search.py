"""Energy-aware deployment: which firing rate, weight bits and input coding, at what energy?

Every point is trained under the chip's numbers and judged on validation images only. The point
that is chosen becomes parameters: ``target_rate``, ``chip_bits``, ``chip_input``, ``chip_spread``.
"""

import contextlib
import itertools

import pandas as pd

from ltgate import train
from ltgate.loihi import chip_table, deploy, mapping
from ltgate.loihi.estimate import estimate
from ltgate.params import Params
from ltgate.processes import side_by_side

INPUTS = ("direct", "differences")
SPREADS = (1, 2)


def search(
    params: Params, rates: tuple[float, ...], bits: tuple[int, ...], images: int
) -> pd.DataFrame:
    """Train, deploy and judge every combination, on at most ``images`` images of each task.

    Columns: ``target_rate``, ``chip_bits``, ``chip_input``, ``chip_spread``; ``accuracy``, mean
    over tasks; ``joules``, mean dynamic energy by counts (estimate); ``seconds``, mean lower end of
    the latency (estimate); ``cores`` with margin; ``front``, whether no other point is as good and
    cheaper, or better and as cheap.
    """
    points = [
        params.with_(
            target_rate=rate,
            chip_bits=bit,
            train_images=min(images, params.train_images or images),
            validation_images=min(images, params.validation_images or images),
        )
        for rate in rates
        for bit in bits
    ]
    number = train.at_once([deploy.trial(point) for point in points])
    judged = side_by_side(_judge, points, number, "energy-aware search")
    table = pd.DataFrame(itertools.chain(*judged))
    table["front"] = [
        not (
            ((table["accuracy"] >= row.accuracy) & (table["joules"] < row.joules))
            | ((table["accuracy"] > row.accuracy) & (table["joules"] <= row.joules))
        ).any()
        for row in table.itertuples()
    ]
    return table


def _judge(params: Params) -> list[dict[str, object]]:
    """Train and deploy; a row for every coding and spread of what fits on the chip."""
    rows = []
    for coding in INPUTS:
        deployed = deploy.deploy(deploy.trial(params.with_(chip_input=coding)))
        done = [deploy.evaluate(deployed, i, "validation") for i in range(len(params.tasks))]
        for spread in SPREADS:
            with contextlib.suppress(mapping.DoesNotFit):
                placed = chip_table.place(deployed, spread)
                found = [estimate(deployed.net, d, placed) for d in done]
                rows.append(
                    {
                        "target_rate": params.target_rate, "chip_bits": params.chip_bits,
                        "chip_input": coding, "chip_spread": spread,
                        "accuracy": sum(d.accuracy for d in done) / len(done),
                        "joules": sum(float(e.layers["energy"].sum()) for e in found) / len(done),
                        "seconds": sum(e.latency.low for e in found) / len(done),
                        "cores": placed.cores,
                    }
                )  # fmt: skip
    return rows


def choose(table: pd.DataFrame, points_lost: float = 0.5) -> dict[str, object]:
    """Parameters of the cheapest point that loses at most ``points_lost`` of the best accuracy."""
    good = table[table["accuracy"] >= table["accuracy"].max() - points_lost / 100]
    best = good.loc[good["joules"].idxmin()]
    names = ("target_rate", "chip_bits", "chip_input", "chip_spread")
    return {name: type(getattr(Params(), name))(best[name]) for name in names}
