r"""Readouts: linear maps from spike counts to class scores, learned online in float64.

The features of an image are the spike counts of the chosen layers, each divided by its L2 norm
(unless told otherwise), and a constant 1 (the bias).

* ``delta`` (published: rate 1e-3, l2 1e-4): W <- W - rate ((softmax(x W) - y)^T x / B + l2 W).
* ``delta_current``: the same, with the softmax and the update over the current task's classes only.
* ``rls``: recursive least squares on one-hot targets (0/1). Each batch adds to the state
  A <- A + x^T x, b <- b + x^T y (A starts at ridge I) and W = A^-1 b; so one batch moves the
  weights by A^-1 x^T (y - x W): P = A^-1 is the ``full`` projector, which shrinks to zero along
  what has been seen. After any order of tasks W is the ridge solution of all data (compare
  orthogonal weight modification, Zeng et al. 2019). A, not P, is kept: less work, and symmetric.
  Neither local nor on-chip, and its state can be larger than the training set.

A new readout is a subclass of :class:`Readout` and one entry in ``READOUTS``.
"""

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import torch
from pydantic import model_validator
from torch import Tensor

from ltgate.declare import Group, NotNegative, OneOf, Positive, Some, Whole, shown
from ltgate.errors import NotFinite
from ltgate.plasticity.projector import PROJECTORS, Subspace
from ltgate.registry import Registry
from ltgate.state import Tensors

if TYPE_CHECKING:
    from ltgate.params import Params

READOUTS = Registry()  # name -> subclass of Readout
BAND = 512  # rows of the Gram matrix updated by one product


class CountParameters(Group, since="0.2", late=True):
    """Classes that are pairs, counts that are deviations."""

    pairs_of: Whole = 0
    """a class is a pair, first * pairs_of + second, and scores what its parts score; 0 = no pair"""
    standardise_counts: bool = False
    """the readout sees each count less its mean over the first task's training samples, divided by
    its standard deviation; before the norm"""

    @model_validator(mode="after")
    def _all_pairs(self) -> Self:
        classes = {label for task in self.tasks for label in task.classes}
        if self.pairs_of and classes != set(range(self.pairs_of**2)):
            raise ValueError(
                f"pairs_of = {self.pairs_of}: the tasks have {len(classes)} classes; needed are 0 "
                f"to {self.pairs_of**2 - 1}"
            )
        return self

    @model_validator(mode="after")
    def _of_frozen_filters(self) -> Self:
        if self.standardise_counts and self.filters == "always":
            raise ValueError(
                "standardise_counts = true: counts of filters = 'always' have no fixed mean; "
                "allowed with filters = 'random' or 'first'"
            )
        return self


class ReadoutParameters(Group, late=True):
    """Readout."""

    readout_layers: Annotated[list[str], Some] = ["conv1/4", "conv2/2", "conv3"]
    """layers the readout sees: conv1, ..., dense1, ...; dense = the last dense; conv1/4 = summed
    over patches of 4 x 4"""
    normalise_counts: bool = True
    """divide each layer's spike counts by their L2 norm for the readout"""
    root_counts: bool = False
    """take the square root of spike counts for the readout, before the norm"""
    readout: Annotated[str, OneOf(READOUTS)] = "rls"
    """rule: delta, delta on the current task's classes, recursive least squares, linear
    discriminant, or prototypes (strictly local)"""
    readout_rate: Positive = 0.001
    """learning rate of the delta rules"""
    readout_l2: NotNegative = 0.0001
    """weight decay of the delta rules"""
    ridge: Positive = 0.1
    """ridge penalty of recursive least squares"""

    @model_validator(mode="after")
    def _views_of_this_network(self) -> Self:
        layers = self.layers()
        text = f"readout_layers = {shown(self.readout_layers)}"
        for view in self.readout_layers:
            layer, _, side = view.partition("/")
            if "/" in view and not (layer.startswith("conv") and re.fullmatch("[1-9][0-9]?", side)):
                raise ValueError(
                    f"{text}: {view!r} is no view; patches are written conv1/4 (side in positions)"
                )
            if layer not in layers and not (layer == "dense" and self.hidden):
                allowed = layers + (["dense"] if self.hidden else [])
                raise ValueError(
                    f"{text}: no layer {layer!r} in this network; allowed: {', '.join(allowed)}"
                )
        named = [layers[-1] if layer == "dense" else layer for layer in self.readout_layers]
        if len(set(named)) < len(named):
            raise ValueError(f"{text}: a layer is named twice")
        return self

    @model_validator(mode="after")
    def _projector_of_this_readout(self) -> Self:
        allowed = [name for name in PROJECTORS if name not in READOUTS[self.readout].without]
        if self.projector not in allowed:
            raise ValueError(
                f"projector = {self.projector!r}: is the matrix of readout 'rls'; with readout = "
                f"{self.readout!r} allowed are {', '.join(allowed)}"
            )
        return self


class Readout(Tensors):
    """What every readout offers.

    A rule is made of the number of inputs (the bias included) and classes, and the parameters.

    Attributes:
        without: Projectors that it cannot go with.
        lower: Parameters of its own that lower the memory it needs.
    """

    without: ClassVar[tuple[str, ...]] = ()
    lower: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def memory(
        cls, inputs: int, classes: int, params: "Params", shapes: list[tuple[int, int, int]]
    ) -> int:
        """Bytes that it holds at its largest; ``shapes`` as :meth:`arrange` is told."""
        return 8 * inputs * classes * 3

    def arrange(self, shapes: list[tuple[int, int, int]]) -> None:
        """Told once, before anything is learned: (channels, height, width) of each view."""

    def scores(self, features: Tensor) -> Tensor:
        """Class scores, float64 [B, classes], of features [B, F]."""
        raise NotImplementedError

    def learn(self, features: Tensor, labels: Tensor, classes: list[int]) -> None:
        """Take in features [B, F] with labels [B]; ``classes`` are those of the current task."""
        raise NotImplementedError

    def end_task(self, params: "Params") -> None:
        """Called after the last batch of a task."""

    def snapshot(self) -> dict[str, Tensor]:
        """What :meth:`scores` needs: all of the state, where no less will do."""
        return self.state_dict()

    def recall(self, snapshot: dict[str, Tensor]) -> "Readout":
        """A readout that answers as at the time of :meth:`snapshot`."""
        self.load_state_dict(snapshot)
        return self


def root(counts: Tensor) -> Tensor:
    """Square root of spike counts, with the finite slope 1 at 0.

    The spread of a count then does not grow with it (Anscombe 1948), and neurons that fire in every
    step do not drown the others (compare RootSIFT, Arandjelovic & Zisserman 2012).
    """
    return counts / counts.clamp_min(1).sqrt()


def standard(counts: Tensor) -> Tensor:
    """Mean and standard deviation of each value of counts [N, F], float64 [2, F]; 1 for a 0."""
    counts = counts.flatten(1).double()
    spread = counts.std(0, unbiased=False)
    return torch.stack([counts.mean(0), spread.where(spread > 0, 1.0)])


def features(
    counts: list[Tensor],
    normalise: bool = True,
    rooted: bool = False,
    standards: list[Tensor] | None = None,
) -> Tensor:
    """Readout inputs of a batch, float64 [B, F + 1].

    Args:
        counts: Spike counts [B, ...] of each chosen layer.
        normalise: Divide each layer's counts by their L2 norm; the published code does not.
        rooted: Take their :func:`root` first.
        standards: Of each layer, the :func:`standard` of what was seen before: each value becomes
            its deviation from the mean in units of its standard deviation, before the norm.
    """
    flat = [c.flatten(1).double() for c in counts]
    if rooted:
        flat = [root(c) for c in flat]
    if standards:
        flat = [(c - mean) / spread for c, (mean, spread) in zip(flat, standards, strict=True)]
    if normalise:
        flat = [torch.nn.functional.normalize(c, dim=1) for c in flat]
    return torch.cat([*flat, torch.ones_like(flat[0][:, :1])], 1)


class Linear(Readout):
    """Scores x W with weights W, float64 [F, classes], that do not learn by themselves."""

    weight: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """x W."""
        return features @ self.weight

    def snapshot(self) -> dict[str, Tensor]:
        """W."""
        return {"weight": self.weight}

    def recall(self, snapshot: dict[str, Tensor]) -> "Linear":
        """Weights that no longer learn."""
        return Linear(weight=snapshot["weight"])


def of_pairs(scores: Tensor, number: int) -> Tensor:
    """Scores of pairs [N, n * n] by their parts: S(a, b) = sum_j s(a, j) + sum_i s(i, b).

    A rule that is linear in its targets, such as recursive least squares, gives with these sums
    what it would give if it had learned either part alone.
    """
    square = scores.unflatten(1, (number, number))
    return (square.sum(2, keepdim=True) + square.sum(1, keepdim=True)).flatten(1)


@READOUTS.add("delta")
class Delta(Linear):
    """Delta rule on softmax scores. ``current_only`` limits it to the current task's classes.

    With a ``subspace`` (projector ``rankk``) every step leaves the scores inside it as they are.
    """

    without: ClassVar[tuple[str, ...]] = ("full",)
    current_only: bool = False

    def __init__(self, inputs: int, classes: int, params: "Params") -> None:
        super().__init__(weight=torch.zeros(inputs, classes, dtype=torch.float64))
        self.rate, self.l2 = params.readout_rate, params.readout_l2
        self.subspace = Subspace(inputs) if params.projector == "rankk" else None

    @classmethod
    def memory(cls, inputs: int, classes: int, params: "Params", *shapes: object) -> int:
        """With moment, residual and their eigenvectors, where the steps are projected."""
        projected = 4 * inputs * inputs * 4 * (params.projector == "rankk")
        return super().memory(inputs, classes, params, *shapes) + projected

    def learn(self, features: Tensor, labels: Tensor, classes: list[int]) -> None:
        """One minibatch step."""
        columns = torch.tensor(classes if self.current_only else range(self.weight.shape[1]))
        weight = self.weight[:, columns]
        target = (labels[:, None] == columns).double()
        error = (features @ weight).softmax(1) - target
        gradient = features.T @ error / len(labels) + self.l2 * weight
        if self.subspace is not None:
            gradient = self.subspace.project(gradient.T).T
            self.subspace.observe(features)
        self.weight[:, columns] = weight - self.rate * gradient
        if not gradient.isfinite().all():
            raise NotFinite("readout delta: NaN or infinity in its step; lower readout_rate")

    def end_task(self, params: "Params") -> None:
        """Later steps leave what this task used as it is, where they are projected."""
        if self.subspace is not None:
            self.subspace.extend(params.projector_rank)


@READOUTS.add("delta_current")
class DeltaCurrent(Delta):
    """The delta rule on the classes of the current task."""

    current_only: bool = True


@READOUTS.add("rls")
class RecursiveLeastSquares(Linear):
    """Recursive least squares in information form; exact ridge regression after any batches.

    While there are fewer images than half the inputs their rows x are kept, and the same weights
    come from the smaller matrix of their products: W = x^T (x x^T + ridge I)^-1 y.

    Attributes:
        gram: A = ridge I + sum x^T x, [F, F]; only its lower triangle is kept up to date.
        moment: b = sum x^T y, [F, classes].
        block: Rows collected before A is touched; changes the time it takes, not the result.
    """

    gram: Tensor
    moment: Tensor
    block: int = 1024

    def __init__(self, inputs: int, classes: int, params: "Params") -> None:
        gram = torch.zeros(inputs, inputs, dtype=torch.float64)
        gram.diagonal().fill_(params.ridge)
        super().__init__(gram=gram, moment=torch.zeros(inputs, classes, dtype=torch.float64))
        self.ridge = params.ridge
        self._few = inputs // 2  # rows kept before any enters A; then 0
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._weight: Tensor | None = None

    @classmethod
    def memory(cls, inputs: int, classes: int, params: "Params", *shapes: object) -> int:
        """Matrix, factor, waiting rows; a mask."""
        return 8 * inputs * (2 * inputs + 1024) + inputs * inputs

    @property
    def weight(self) -> Tensor:
        """W = A^-1 b, float64 [F, classes]."""
        if self._weight is None:
            if self._few:
                x, labels = self._rows()
                products = x @ x.T
                products.diagonal().add_(self.ridge)
                self._weight = x.T @ solve(products, self._targets(labels))
            else:
                self.settle()
                self._weight = solve(self.gram, self.moment)
        return self._weight

    def learn(self, features: Tensor, labels: Tensor, classes: list[int]) -> None:
        """Take in one minibatch; the targets are one-hot over all classes."""
        self._waiting.append((features, labels))
        self._weight = None
        if sum(len(rows) for rows, _ in self._waiting) >= (self._few or self.block):
            self.settle()

    def settle(self) -> None:
        """Bring A and b up to date with every minibatch taken in so far."""
        if self._waiting:
            x, labels = self._rows()
            self._waiting.clear()
            self._few = 0
            for rows in torch.arange(x.shape[1]).split(BAND):  # only the lower triangle counts
                low, high = int(rows[0]), int(rows[-1]) + 1
                self.gram[low:high, :high].addmm_(x[:, low:high].T, x[:, :high])
            self.moment.addmm_(x.T, self._targets(labels))

    def _rows(self) -> tuple[Tensor, Tensor]:
        """Features [N, F] and labels [N] of what is not in A yet."""
        x = torch.cat([self.gram[:0], *(rows for rows, _ in self._waiting)])
        labels = torch.cat([torch.zeros(0, dtype=int), *(labels for _, labels in self._waiting)])
        return x, labels

    def _targets(self, labels: Tensor) -> Tensor:
        """One-hot, [N, classes]."""
        return torch.nn.functional.one_hot(labels, self.moment.shape[1]).double()

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """The rows while they are few; else b, and the lower triangle of A, row by row."""
        if self._few:
            x, labels = self._rows()
            destination |= {f"{prefix}rows": x, f"{prefix}labels": labels}
            return
        self.settle()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}gram"] = self.gram[_triangle(len(self.gram))]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest) -> None:
        size = len(self.gram)
        self._weight = None
        self._waiting.clear()
        gram, moment = torch.zeros_like(self.gram), torch.zeros_like(self.moment)
        if few := f"{prefix}rows" in state_dict:
            gram.diagonal().fill_(self.ridge)
            self._waiting.append((state_dict[f"{prefix}rows"], state_dict[f"{prefix}labels"]))
        else:
            gram[_triangle(size)] = state_dict[f"{prefix}gram"]
            gram += gram.tril(-1).T
            moment = state_dict[f"{prefix}moment"]
        self._few = size // 2 * few
        whole = {f"{prefix}gram": gram, f"{prefix}moment": moment}
        super()._load_from_state_dict(whole, prefix, *rest)


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """matrix^-1 right, by the lower triangle of a positive definite matrix."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed or not factor.diagonal().isfinite().all():  # NaN anywhere in a row reaches its end
        raise NotFinite(
            "readout rls or lda: its matrix is not positive definite; raise ridge (now below what "
            "float64 resolves beside the spike counts)"
        )
    return torch.cholesky_solve(right, factor)


def _triangle(size: int) -> Tensor:
    """Mask of the lower triangle of a matrix."""
    return torch.ones(size, size, dtype=torch.bool).tril_()
