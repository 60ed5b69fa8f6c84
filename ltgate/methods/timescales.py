"""What may stand for a neuron's timescale: the rows of ``docs/timescales.md``, one line each.

All have the same filters, readout and calibrated rate; they differ in the neuron alone.
"""

from typing import Annotated, Any

from pydantic import Field

from ltgate.declare import FilePath, Group
from ltgate.methods.base import METHODS, SpikingLearner


class TimescaleParameters(Group, compute=True):
    """Notebook 07."""

    timescales: Annotated[FilePath, Field(min_length=1)] = "timescales_quick"
    """parameter file of the streams of notebook 07: a name in params, or a path"""


SINGLE = (5, 10, 20, 40, 100)


def single(tau_ms: float) -> dict[str, Any]:
    """One membrane."""
    return {"taus_ms": [float(tau_ms)], "output": "or"}


BLEND = {"taus_ms": [5.0, 100.0], "output": "blend"}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"tau_{tau}": (f"One membrane of {tau} ms.", single(tau)) for tau in SINGLE},
    "tau_halves": ("A random half of the neurons 5 ms, the others 100 ms.",
                   {**BLEND, "gate": "random"}),
    "tau_log_uniform": ("Each neuron a time constant of its own, log-uniform from 5 to 100 ms "
                        "(Perez-Nieves et al. 2021).", {**single(5), "follows": "own"}),
    "tau_of_rate": ("One membrane whose time constant follows the rate of the layer's input.",
                    {**single(5), "follows": "rate"}),
    "either": ("Two compartments, the published output or.",
               {"taus_ms": [5.0, 100.0], "output": "or"}),
    "blend_half": ("Two membranes, blended half and half.",
                   {**BLEND, "gate": "fixed", "gamma": 0.5}),
    "gate_quieter": ("The published soft gate: the quieter compartment's membrane weighs more.",
                     {**BLEND, "gate": "blend"}),
    "gate_teacher": ("Each neuron the compartment whose counts tell the classes better.",
                     {**BLEND, "gate": "teacher"}),
    "gate_static": ("Each neuron the compartment closer to the layer's set point, once.",
                    {**BLEND, "gate": "set_point"}),
    "gate_neuron": ("Set-point gate within the sample, per neuron.",
                    {**BLEND, "follows": "neuron"}),
    "gate_layer": ("Set-point gate within the sample, one for the layer.",
                   {**BLEND, "follows": "layer"}),
    "gate_three": ("As gate_layer over three compartments, 5, 22.4 and 100 ms.",
                   {**BLEND, "taus_ms": [5.0, 22.4, 100.0], "follows": "layer"}),
    "gate_five": ("As gate_layer over five compartments, 1.25 to 400 ms.",
                  {**BLEND, "taus_ms": [1.25, 5.0, 22.4, 100.0, 400.0], "follows": "layer"}),
    "gate_cue": ("An oracle that is told the speed.", {**BLEND, "follows": "cue"}),
    "gate_oracle": ("An oracle that knows each neuron's timescale.", {**BLEND, "gate": "oracle"}),
}  # fmt: skip

for _name, (_text, _preset) in ROWS.items():
    METHODS.add(_name)(
        type(
            _name, (SpikingLearner,), {"__doc__": _text, "preset": _preset, "__module__": __name__}
        )
    )
