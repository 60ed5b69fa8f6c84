"""LT-Gate: local timescale gates for continual spiking neural networks.

Train a method on two tasks, one after the other, and look at what is left of the first::

    import ltgate

    params = ltgate.Params.load("smoke", name="first")  # params/smoke.yaml, and what is changed
    trial = ltgate.Trial(params, "lt_gate", seed=0)
    curves = ltgate.fit(trial)  # validation accuracy while it learns
    rows = ltgate.frame(ltgate.evaluate(trial))  # on the test images
    R = ltgate.r_matrix(rows, scenario="class")  # [tasks learned, task tested]
    figure = ltgate.plot(rows)
    images = ltgate.open_task(params, params.tasks[0], "validation", seed=0)
    network = trial.restore("task1.safetensors").network
    spikes = ltgate.forward(network, images.images[:8], ltgate.schedule(params.tasks[0], "pulse"))
    ltgate.export(trial.folder / "task1.safetensors", "first.nir")  # for other simulators

Names here are imported when they are first used.
"""

from typing import TYPE_CHECKING

from ltgate import homes, lazy

if TYPE_CHECKING:
    from ltgate.backends import forward as forward
    from ltgate.data import open_task as open_task
    from ltgate.data import schedule as schedule
    from ltgate.exchange import export as export
    from ltgate.network import create as make_network  # noqa: F401
    from ltgate.neurons import Dynamics as Dynamics
    from ltgate.params import Params as Params
    from ltgate.results import r_matrix as r_matrix
    from ltgate.tidy import plot as plot
    from ltgate.train import Trial as Trial
    from ltgate.train import evaluate as evaluate
    from ltgate.train import frame as frame
    from ltgate.train import train as fit  # noqa: F401

__version__ = "0.1.0"

_HOMES = {
    "Params": "params",
    "open_task": "data",
    "schedule": "data",
    "Dynamics": "neurons",
    "make_network": "network:create",
    "forward": "backends",
    "Trial": "train",
    "fit": "train:train",
    "evaluate": "train",
    "frame": "train",
    "r_matrix": "results",
    "plot": "tidy",
    "export": "exchange",
}
__all__ = [*_HOMES]
__getattr__ = lazy.names(__name__, _HOMES)

homes.ensure()


def __dir__() -> list[str]:
    return [*globals(), *__all__]
