r"""A strictly local readout: neurons of each class compete for its images.

Every class has K neurons with weights p_k of unit length. During learning a teaching current
enables the neurons of the image's class alone; among them the most strongly driven one wins and
moves towards its input x (unit length), by less the more often it has won (n_k)::

    k* = argmax over the class's k of p_k . x,   n_k* <- n_k* + 1
    p_k* <- u / |u|,   u = p_k* + (x - p_k*) / n_k*

Presynaptic activity times postsynaptic winning, bounded in length: the rule of
:mod:`ltgate.plasticity.competitive`, one layer up. A neuron that has never won takes the first
image that comes (n_k = 0). The class of the most strongly driven neuron is the answer.

Images of other classes move nothing, so later tasks cannot overwrite earlier ones: what is lost is
lost to competition with new classes alone. Each synapse needs its own pre- and postsynaptic
activity and nothing else: no error of other neurons, no matrix of all inputs. Compare learning
vector quantisation and sequential k-means (MacQueen 1967; Kohonen 1995).
"""

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ltgate.declare import Count, Group
from ltgate.plasticity.readout import READOUTS, Readout

if TYPE_CHECKING:
    from ltgate.params import Params


class PrototypeParameters(Group, late=True):
    """Readout prototypes."""

    prototypes: Count = 400
    """neurons per class of the readout prototypes"""


@READOUTS.add("prototypes")
class Prototypes(Readout):
    """K prototypes for every class.

    Attributes:
        prototype: p, float32 [classes, K, F]; zero where nothing has been learned.
        wins: n, int64 [classes, K].
    """

    lower: ClassVar[tuple[str, ...]] = ("prototypes",)
    prototype: Tensor
    wins: Tensor

    def __init__(self, inputs: int, classes: int, params: "Params") -> None:
        wins = torch.zeros(classes, params.prototypes, dtype=torch.int64)
        prototype = torch.zeros(*wins.shape, inputs)
        super().__init__(prototype=prototype, wins=wins)

    @classmethod
    def memory(cls, inputs: int, classes: int, params: "Params") -> int:
        """The prototypes."""
        return 4 * classes * params.prototypes * inputs

    def scores(self, features: Tensor) -> Tensor:
        """Drive of each class's most strongly driven neuron, float64 [B, classes]."""
        x = normalize(features.float(), dim=1)
        drive = x @ self.prototype.flatten(0, 1).T
        return drive.unflatten(1, self.wins.shape).amax(2).double()

    def learn(self, features: Tensor, labels: Tensor, classes: list[int]) -> None:
        """Take in features [B, F] with labels [B]; winners are found before any of them moves."""
        x = normalize(features.float(), dim=1)
        for label in labels.unique().tolist():
            self._learn_class(label, x[labels == label])

    def _learn_class(self, label: int, x: Tensor) -> None:
        prototype, wins = self.prototype[label], self.wins[label]
        free = (wins == 0).nonzero()[: len(x), 0]
        prototype[free], wins[free] = x[: len(free)], 1
        x = x[len(free) :]
        if not len(x):
            return
        winner = (x @ prototype.T).argmax(1)
        number = torch.bincount(winner, minlength=len(wins))
        total = torch.zeros_like(prototype).index_add_(0, winner, x)
        won = number > 0
        wins += number
        moved = prototype[won] + (total[won] - number[won, None] * prototype[won]) / wins[won, None]
        prototype[won] = normalize(moved, dim=1)
