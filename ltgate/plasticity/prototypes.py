r"""A strictly local readout: in every part of the image, neurons of each class compete.

Every class has K neurons for each window of ``prototype_side`` x ``prototype_side`` positions of a
view (windows overlap; 0 = one window, the whole input), with weights p_wk and threshold |p_wk|^2/2.
During learning a teaching current enables the neurons of the image's class alone; in each window w
the most strongly driven one wins and moves towards its input x_w, by less the more often it has won
(n_wk)::

    k* = argmax over the class's k of p_wk . x_w - |p_wk|^2 / 2,   n_wk* <- n_wk* + 1
    p_wk* <- p_wk* + (x_w - p_wk*) / n_wk*

Presynaptic activity times postsynaptic winning. The winner is the neuron nearest to x_w, and its
weights are the mean of what it has won. A class's first image is imprinted in all of its neurons;
one that has never won takes the next image that comes (n_wk = 0). A class scores the sum over
windows of its winners' drives: its parts vote, so K neurons a window stand for K^windows images,
where K neurons of the whole image stand for K.

Images of other classes move nothing, so later tasks cannot overwrite earlier ones: what is lost is
lost to competition with new classes alone. Each synapse needs its own pre- and postsynaptic
activity and nothing else: no error of other neurons, no matrix of all inputs. Compare sequential
k-means (MacQueen 1967; Kohonen 1995) and naive-Bayes nearest neighbours (Boiman et al. 2008).
"""

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ltgate.declare import Count, Group, Whole
from ltgate.plasticity.readout import READOUTS, Readout

if TYPE_CHECKING:
    from ltgate.params import Params


class PrototypeParameters(Group, late=True):
    """Readout prototypes."""

    prototypes: Count = 400
    """neurons per class (and window) of the readout prototypes"""


class WindowParameters(Group, since="0.2", late=True):
    """Windows of the readout prototypes."""

    prototype_side: Whole = 0
    """side, in positions of a view, of the windows in which prototypes compete; 0 = all at once"""


def windows(shapes: list[tuple[int, int, int]], side: int) -> Tensor:
    """Which inputs each window sees, int64 [windows, D].

    Args:
        shapes: (channels, height, width) of each view, in the order of the inputs.
        side: Height and width of a window, or the view's where that is smaller.

    Where views have windows of unequal size, the shorter rows end in the number of all inputs.
    """
    found, before = [], 0
    for channels, height, width in shapes:
        size = channels * height * width
        grid = torch.arange(before, before + size).view(channels, height, width)
        cut = grid.unfold(1, min(side, height), 1).unfold(2, min(side, width), 1)
        found += cut.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
        before += size
    return torch.nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=before)


@READOUTS.add("prototypes")
class Prototypes(Readout):
    """K prototypes for every class and window.

    Attributes:
        prototype: p, float32 [classes, windows, K, D]; zero where nothing has been learned.
        wins: n, int64 [classes, windows, K].
        number: K.
        side: Of the windows; 0 = one window of all inputs.
    """

    lower: ClassVar[tuple[str, ...]] = ("prototypes",)
    prototype: Tensor
    wins: Tensor

    def __init__(self, inputs: int, classes: int, params: "Params") -> None:
        super().__init__()
        self.classes, self.number = classes, params.prototypes
        self.side = params.prototype_side
        self._see(torch.arange(inputs)[None])

    @classmethod
    def memory(
        cls, inputs: int, classes: int, params: "Params", shapes: list[tuple[int, int, int]]
    ) -> int:
        """The prototypes, and what they have won."""
        side, number = params.prototype_side, classes * params.prototypes
        seen = windows(shapes, side).shape if side else (1, inputs)
        return number * seen[0] * (4 * seen[1] + 8)

    def arrange(self, shapes: list[tuple[int, int, int]]) -> None:
        """Cut the views into windows."""
        if self.side:
            self._see(windows(shapes, self.side))

    def _see(self, inputs: Tensor) -> None:
        self._inputs = inputs
        shape = (self.classes, len(inputs), self.number)
        self.register_buffer("prototype", torch.zeros(*shape, inputs.shape[1]))
        self.register_buffer("wins", torch.zeros(shape, dtype=torch.int64))

    def _parts(self, features: Tensor) -> Tensor:
        """What each window sees of features [B, F], float32 [windows, B, D]."""
        padded = torch.nn.functional.pad(features.float(), (0, 1))
        padded[:, -2:] = 0  # the bias, and what a short window ends in
        return padded[:, self._inputs].transpose(0, 1).contiguous()

    def scores(self, features: Tensor) -> Tensor:
        """Sum over windows of the winners' drives, float64 [B, classes]."""
        x = self._parts(features)
        return torch.stack([_drive(x, p).amax(2).double().sum(0) for p in self.prototype], 1)

    def learn(self, features: Tensor, labels: Tensor, classes: list[int]) -> None:
        """Take in features [B, F] with labels [B]; winners are found before any of them moves."""
        x = self._parts(features)
        for label in labels.unique().tolist():
            self._learn_class(label, x[:, labels == label])

    def _learn_class(self, label: int, x: Tensor) -> None:
        prototype, wins = self.prototype[label], self.wins[label]
        if not wins.any():
            prototype[:] = x[:, :1]
        free = (wins[0] == 0).nonzero()[: x.shape[1], 0]  # the same ones in every window
        prototype[:, free], wins[:, free] = x[:, : len(free)], 1
        x = x[:, len(free) :]
        if not x.shape[1]:
            return
        winner = _drive(x, prototype).argmax(2) + self.number * torch.arange(len(x))[:, None]
        won, which, number = winner.unique(return_inverse=True, return_counts=True)
        total = x.new_zeros(len(won), x.shape[2]).index_add_(0, which.flatten(), x.flatten(0, 1))
        flat, counts = prototype.flatten(0, 1), wins.flatten()  # views: what moves there moves here
        counts[won] += number
        flat[won] += (total - number[:, None] * flat[won]) / counts[won, None]


def _drive(x: Tensor, prototype: Tensor) -> Tensor:
    """p . x - |p|^2 / 2 of x [windows, B, D] for [windows, K, D]: [windows, B, K]."""
    threshold = prototype.square().sum(2) / 2
    return torch.baddbmm(-threshold[:, None], x, prototype.transpose(1, 2))
