"""The methods compared, one file each. A new method is one file and one entry in ``METHODS``."""

from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from ltgate.methods.base import Method

# name -> class, or module:class, imported when used, so that listing the names costs nothing

if TYPE_CHECKING:
    from ltgate.params import Params

METHODS: dict[str, str | type[Method]] = {
    "lt_gate": "ltgate.methods.lt_gate:LTGate",
    "lt_gate_published": "ltgate.methods.lt_gate_published:LTGatePublished",
    "sequential": "ltgate.methods.sequential:Sequential",
    "random_features": "ltgate.methods.random_features:RandomFeatures",
    "lt_gate_local": "ltgate.methods.lt_gate_local:LTGateLocal",
    "single_tau": "ltgate.methods.single_tau:SingleTau",
    "single_tau_fast": "ltgate.methods.single_tau:SingleTauFast",
    "replay": "ltgate.methods.replay:Replay",
    "hlop": "ltgate.methods.hlop:HLOP",
    "dsd_snn": "ltgate.methods.dsd_snn:DSDSNN",
    "configured": "ltgate.methods.configured:Configured",
    "joint": "ltgate.methods.joint:Joint",
}


def names() -> list[str]:
    """All known methods."""
    return list(METHODS)


def find(name: str) -> type[Method]:
    """The class of a method."""
    entry = METHODS[name]
    if not isinstance(entry, str):
        return entry
    module, _, cls = entry.partition(":")
    return getattr(import_module(module), cls)


def create(name: str, params: "Params", generator: np.random.Generator) -> Method:
    """A fresh learner; the method's preset goes over ``params`` first."""
    cls = find(name)
    return cls(cls.configure(params), generator)
