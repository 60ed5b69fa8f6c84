"""A real chip, where there is one: Lava's hardware extension and its profilers.

The extension (lava-loihi) and the microcode of a custom neuron are not public, so no run on a chip
has been made with this file. What can be tested without them is: that it says so in one line, that
a run whose models are Python is refused, and the arithmetic from profiler to result rows.
"""

import importlib.util
from collections.abc import Iterable
from typing import Any

from ltgate.errors import UserError
from ltgate.loihi import lava_backend

PROFILERS = "lava.utils.loihi2_profiler"


class LoihiNotAvailable(UserError):
    """There is no chip here, or not everything would run on it."""


def installed() -> bool:
    """Whether Lava's hardware extension can be imported."""
    return lava_backend.available() and importlib.util.find_spec(PROFILERS) is not None


def require() -> None:
    """Raise `LoihiNotAvailable`, one line, where there is no extension."""
    if not installed():
        raise LoihiNotAvailable(
            f"no Loihi 2 here: {PROFILERS} (Lava's extension for members of Intel's research "
            "community) is not installed; what follows is an estimate"
        )


def refuse_python(models: Iterable[type]) -> None:
    """Raise `LoihiNotAvailable` if a model would run in Python: Lava falls back to it silently."""
    from lava.magma.core.model.py.model import AbstractPyProcessModel

    python = [model.__name__ for model in models if issubclass(model, AbstractPyProcessModel)]
    if python:
        raise LoihiNotAvailable(
            f"{', '.join(sorted(set(python)))}: Lava chose a Python model, so this would be no "
            "hardware run; a model for the neuron cores (microcode) is needed"
        )


def models(executable: Any) -> list[type]:
    """The model class of every process of a compiled network."""
    builders = executable.proc_builders.values()
    return [builder.proc_model for builder in builders]


def measure(source: Any, steps: int, steps_per_sample: int) -> list[dict]:
    """Run a network of Lava processes on the chip with all profilers; result rows.

    Args:
        source: Any process of the network.
        steps: Of the whole run: many samples, so that power can be measured.
        steps_per_sample: T.
    """
    require()
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2HwCfg

    profilers = importlib.import_module(PROFILERS)
    power = profilers.Loihi2Power(num_steps=steps)
    runtime = profilers.Loihi2ExecutionTime()
    memory, activity = profilers.Loihi2Memory(), profilers.Loihi2Activity()
    config = Loihi2HwCfg(callback_fxs=[power, runtime, memory, activity])
    executable = source.compile(config)
    refuse_python(models(executable))
    source.create_runtime(executable=executable)
    try:
        source.run(RunSteps(steps))
    finally:
        source.stop()
    return rows(power, runtime, steps_per_sample)


def rows(power: Any, runtime: Any, steps_per_sample: int) -> list[dict]:
    """Result rows as in ``table_loihi``: latency from us per step, energy from W."""
    seconds = float(runtime.avg_time_per_step) * 1e-6 * steps_per_sample
    total = float(power.total_power)
    static = float(power.static_power)
    found = {
        "latency": (seconds, "s"),
        "total_power": (total, "W"),
        "total_energy": (total * seconds, "J"),
        "dynamic_energy": ((total - static) * seconds, "J"),
    }
    return [
        {
            "metric": name, "value": value, "low": value, "high": value, "unit": unit,
            "kind": "measured", "source": "Loihi 2, lava.utils.loihi2_profiler",
        }
        for name, (value, unit) in found.items()
    ]  # fmt: skip
