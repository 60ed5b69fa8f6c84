r"""Streaming linear discriminant analysis: class means and one covariance, kept image by image.

A reference without replay, on the same features as the other readouts (Hayes & Kanan 2020). With
n_k images x of class k, their sum b_k, mean mu_k = b_k / n_k and the scatter within classes

    S = ridge I + sum x x^T - sum_k n_k mu_k mu_k^T,

a class scores x S^-1 mu_k - mu_k S^-1 mu_k / 2: the linear discriminant for classes that are as
frequent, times the number of images. The sums are those of recursive least squares.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ltgate.plasticity.readout import READOUTS, RecursiveLeastSquares, solve

if TYPE_CHECKING:
    from ltgate.params import Params

UNSEEN = float(torch.finfo(torch.float32).min)  # the score of a class without an image


@READOUTS.add("lda")
class StreamingLDA(RecursiveLeastSquares):
    """The linear discriminant of all images so far, whatever their order."""

    without = ("full",)

    @classmethod
    def memory(cls, inputs: int, classes: int, params: "Params", *shapes: object) -> int:
        """As least squares, and S beside its matrix."""
        return super().memory(inputs, classes, params, *shapes) + 8 * inputs * inputs

    @property
    def weight(self) -> Tensor:
        """S^-1 mu, float64 [F, classes]; in the row of the bias -mu S^-1 mu / 2."""
        if self._weight is None:
            gram, moment = self._sums()
            number = moment[-1]  # the bias is 1 in every image
            means = moment / number.clamp_min(1)
            weight = solve(gram - means @ moment.T, means)
            weight[-1] = -(means[:-1] * weight[:-1]).sum(0) / 2
            weight[-1, number == 0] = UNSEEN
            self._weight = weight
        return self._weight

    def _sums(self) -> tuple[Tensor, Tensor]:
        """A and b of all images; few rows stay rows, for an answer changes no state."""
        if self._few:
            x, labels = self._rows()
            return self.gram + x.T @ x, x.T @ self._targets(labels)
        self.settle()
        return self.gram, self.moment
