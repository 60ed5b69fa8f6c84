"""The methods compared. A new one is a class in a file here, under ``@METHODS.add(NAME)``."""

from typing import TYPE_CHECKING

import numpy as np

from ltgate.methods import presets as presets  # listed before what the other files bring
from ltgate.methods.base import METHODS, SpikingLearner
from ltgate.registry import import_files

if TYPE_CHECKING:
    from ltgate.params import Params

import_files(__name__, __path__)


def names() -> list[str]:
    """All known methods."""
    return list(METHODS)


def create(name: str, params: "Params", generator: np.random.Generator) -> SpikingLearner:
    """A fresh learner; the method's preset goes over ``params`` first."""
    cls = METHODS[name]
    return cls(cls.configure(params), generator)
