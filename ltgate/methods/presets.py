"""Methods that are a choice of parameters: name, base class, one line of text, preset."""

from typing import Annotated, Any

from pydantic import Field

from ltgate.data.store import TaskImages
from ltgate.declare import FilePath, Group
from ltgate.methods.base import METHODS, SpikingLearner
from ltgate.methods.gradient import GradientLearner
from ltgate.methods.hlop import HLOP


class StudyParameters(Group, compute=True):
    """Notebook 07."""

    timescales: Annotated[FilePath, Field(min_length=1)] = "timescales_quick"
    """parameter file of the streams of notebook 07: a name in params, or a path"""


class Joint(SpikingLearner):
    """A readout that starts anew at every task and sees the images of all tasks so far."""

    def curriculum(self, position: int) -> list[int]:
        """Every task up to this one."""
        return list(range(position + 1))

    def begin_task(self, position: int, images: TaskImages) -> None:
        """Filters as in LT-Gate (first task); a fresh readout."""
        super().begin_task(position, images)
        self.readout = self.new_readout()


class JointGradient(Joint, GradientLearner):
    """The same for a network whose every weight learns; it goes on from the task before."""


class LastButOne(SpikingLearner):
    """A readout that sees the last view but one, if there are several."""

    @classmethod
    def sees(cls, computed: list[str]) -> list[str]:
        """The last view but one.

        At 50 Hz the few spikes of the deepest would weigh as much as all the others of a view; the
        view before (conv1/4) adds nothing where prototypes have windows: params/tuning_local.csv.
        """
        return computed[-2:][:1]


LT_GATE = {"filters": "first", "projector": "full", "readout": "rls"}
PUBLISHED = {
    "balanced": False,
    "current": "raw",
    "output": "or",
    "reset": "subtract",
    "filters": "always",
    "gate": "select",
    "projector": "rank1",
    "normalise_counts": False,
    "readout": "delta",
    "readout_layers": ["dense"],
    "threshold_scope": "layer",
    "target_rate": 0.02,
}
LOCAL = {
    "filters": "first",
    "projector": "none",
    "readout": "prototypes",
    "prototypes": 200,
    "prototype_side": 3,
}
NEAREST_MEAN = {"filters": "first", "projector": "none", "readout": "prototypes", "prototypes": 1}
LDA = {"filters": "first", "projector": "none", "readout": "lda", "ridge": 0.03}
SEQUENTIAL = {"filters": "first", "projector": "none", "readout": "delta", "readout_rate": 1.0}

PRESETS = (
    ("lt_gate", SpikingLearner,
     "Dual compartments, filters learned locally on the first task and then frozen, a readout by "
     "recursive least squares: its matrix, the full projector, is neither local nor on-chip.",
     LT_GATE),
    ("lt_gate_published", SpikingLearner,
     "Every published choice (of code that never ran): raw current, or output, hard gate on "
     "updates, rank-one projector, filters that learn in every batch, a delta rule on dense.",
     PUBLISHED),
    ("sequential", SpikingLearner,
     "The lower bound: LT-Gate's features under a delta rule over all classes, one task after the "
     "other, nothing protected.",
     SEQUENTIAL),
    ("random_features", SpikingLearner,
     "What the readout alone achieves: LT-Gate's, on filters that stay as drawn.",
     {**LT_GATE, "filters": "random"}),
    ("lt_gate_local", LastButOne,
     "The best strictly local reading: every synapse learns from its own pre- and postsynaptic "
     "activity and a teacher; no matrix over all inputs, no error of other neurons, no replay.",
     LOCAL),
    ("nearest_mean", SpikingLearner,
     "LT-Gate's features, each image of the class whose mean is nearest: all that is kept.",
     NEAREST_MEAN),
    ("streaming_lda", SpikingLearner,
     "LT-Gate's features under streaming linear discriminant analysis (Hayes & Kanan 2020).",
     LDA),
    ("single_tau", SpikingLearner,
     "LT-Gate with one membrane of the slow time constant, which validation prefers.",
     {**LT_GATE, "compartments": "slow"}),
    ("single_tau_fast", SpikingLearner,
     "LT-Gate with one membrane of the fast time constant.",
     {**LT_GATE, "compartments": "fast"}),
    ("configured", SpikingLearner,
     "Whatever the parameters say: for ablations and grids, in which any of them varies.",
     {}),
    ("joint", Joint,
     "The upper bound: LT-Gate's readout trained on all tasks so far at once, from scratch.",
     LT_GATE),
    ("surrogate", GradientLearner,
     "Every weight trained through time by surrogate gradients, one task after the other, nothing "
     "protected.",
     GradientLearner.preset),
    ("surrogate_joint", JointGradient,
     "The upper bound of surrogate gradients: trained on the images of all tasks so far.",
     GradientLearner.preset),
    ("hlop_streams", HLOP,
     "HLOP with the readout's rate that streams want: params/tuning_streams.csv.",
     {**HLOP.preset, "head_rate": 0.05}),
)  # fmt: skip

# What may stand for a neuron's timescale: the rows of docs/timescales.md, one line each. All have
# the same filters, readout and calibrated rate; they differ in the neuron alone.
SINGLE = (5, 10, 20, 40, 100)
BLEND = {"taus_ms": [5.0, 100.0], "output": "blend"}


def single(tau_ms: float) -> dict[str, Any]:
    """One membrane."""
    return {"taus_ms": [float(tau_ms)], "output": "or"}


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

EVERY = *PRESETS, *((name, SpikingLearner, *row) for name, row in ROWS.items())
for _name, _base, _text, _preset in EVERY:
    METHODS[_name] = type(_name, (_base,), {"__doc__": _text, "preset": _preset})
