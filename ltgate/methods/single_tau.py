"""LT-Gate's learning with one compartment per neuron: what the second timescale adds."""

from typing import Any, ClassVar

from ltgate.methods.lt_gate import LTGate


class SingleTau(LTGate):
    """One membrane with the slow time constant, which validation prefers to the fast one."""

    preset: ClassVar[dict[str, Any]] = {**LTGate.preset, "compartments": "slow"}


class SingleTauFast(LTGate):
    """One membrane with the fast time constant."""

    preset: ClassVar[dict[str, Any]] = {**LTGate.preset, "compartments": "fast"}
