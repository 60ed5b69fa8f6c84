r"""Readouts: linear maps from spike counts to class scores, learned online in float64.

The features of an image are the spike counts of the chosen layers, each divided by its L2 norm, and
a constant 1 (the bias).

* ``delta`` (published: rate 1e-3, l2 1e-4): W <- W - rate ((softmax(x W) - y)^T x / B + l2 W).
* ``delta_current``: the same, with the softmax and the update over the current task's classes only.
* ``rls``: recursive least squares on one-hot targets (0/1),
  K = P x^T (I + x P x^T)^-1,  W <- W + K (y - x W),  P <- P - K x P,  P starts at I / ridge.
  P is the ``full`` projector: it shrinks to zero along what has been seen, so an update leaves the
  answers to earlier inputs as good as joint least squares would (after any order of tasks W equals
  the ridge solution of all data; compare orthogonal weight modification, Zeng et al. 2019).
  Neither local nor on-chip, and its state can be larger than the training set.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Readout(Protocol):
    """What every readout offers: W [features, classes] and one update."""

    weight: Tensor

    def learn(self, features: Tensor, labels: Tensor, classes: list[int]) -> None:
        """Take in features [B, F] with labels [B]; ``classes`` are those of the current task."""

    def state(self) -> dict[str, Tensor]:
        """All tensors of the learner."""


def features(counts: list[Tensor]) -> Tensor:
    """Readout inputs of a batch, float64 [B, F + 1].

    Args:
        counts: Spike counts [B, ...] of each chosen layer.
    """
    scaled = [torch.nn.functional.normalize(c.flatten(1).double(), dim=1) for c in counts]
    return torch.cat([*scaled, torch.ones(len(counts[0]), 1, dtype=torch.float64)], 1)


@dataclass
class Delta:
    """Delta rule on softmax scores. ``current_only`` limits it to the current task's classes."""

    weight: Tensor
    rate: float
    l2: float
    current_only: bool = False

    @classmethod
    def create(
        cls, inputs: int, classes: int, rate: float, l2: float, current_only: bool = False
    ) -> "Delta":
        """Weights at zero."""
        return cls(torch.zeros(inputs, classes, dtype=torch.float64), rate, l2, current_only)

    def learn(self, features: Tensor, labels: Tensor, classes: list[int]) -> None:
        """One minibatch step."""
        columns = torch.tensor(classes if self.current_only else range(self.weight.shape[1]))
        weight = self.weight[:, columns]
        target = (labels[:, None] == columns).double()
        error = (features @ weight).softmax(1) - target
        gradient = features.T @ error / len(labels) + self.l2 * weight
        self.weight[:, columns] = weight - self.rate * gradient

    def state(self) -> dict[str, Tensor]:
        """W."""
        return {"weight": self.weight}


@dataclass
class RecursiveLeastSquares:
    """Recursive least squares; exact ridge regression after any number of batches.

    Batches are collected to blocks of ``block`` rows before P is updated, which changes nothing in
    the result but the time it takes; :meth:`settle` takes in what is left.
    """

    weight: Tensor
    inverse: Tensor
    block: int = 512

    def __post_init__(self) -> None:
        self._waiting: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def create(cls, inputs: int, classes: int, ridge: float) -> "RecursiveLeastSquares":
        """W at zero, P = I / ridge."""
        weight = torch.zeros(inputs, classes, dtype=torch.float64)
        return cls(weight, torch.eye(inputs, dtype=torch.float64) / ridge)

    def learn(self, features: Tensor, labels: Tensor, classes: list[int]) -> None:
        """Take in one minibatch; the targets are one-hot over all classes."""
        self._waiting.append((features, labels))
        if sum(len(rows) for rows, _ in self._waiting) >= self.block:
            self.settle()

    def settle(self) -> None:
        """Update W and P with every minibatch taken in so far."""
        if not self._waiting:
            return
        x = torch.cat([rows for rows, _ in self._waiting])
        labels = torch.cat([labels for _, labels in self._waiting])
        self._waiting.clear()
        target = torch.nn.functional.one_hot(labels, self.weight.shape[1]).double()
        px = self.inverse @ x.T
        inner = torch.eye(len(x), dtype=torch.float64) + x @ px
        factor = torch.linalg.cholesky(inner)
        half = torch.linalg.solve_triangular(factor, px.T, upper=False)
        self.weight += half.T @ torch.linalg.solve_triangular(
            factor, target - x @ self.weight, upper=False
        )
        self.inverse -= half.T @ half

    def state(self) -> dict[str, Tensor]:
        """W and P."""
        self.settle()
        return {"weight": self.weight, "inverse": self.inverse}
