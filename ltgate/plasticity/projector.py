r"""Projectors: keep updates away from what earlier tasks use.

``rank1`` (published code): one vector v of length ``out`` per compartment, moved by
v <- v + eta_v (h - (h.v) v) with h_o the mean over inputs of post_o x pre, and
dW <- (I - v v^T / (|v|^2 + 1e-8)) dW.

``rankk``: an orthonormal basis H [k, in] of the inputs that a layer, or a delta rule's readout, saw
in earlier tasks (leading eigenvectors of their second moment); dW <- dW (I - H^T H): the response
to inputs inside the subspace does not change. (A Hebbian update then brings each neuron's weights
back to their length, which scales its response.)

``full`` acts at the readout and is :class:`ltgate.plasticity.readout.RecursiveLeastSquares`.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import scipy.linalg
import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional

from ltgate.declare import Count, Group, NotNegative


class ProjectorParameters(Group):
    """Projector."""

    projector: Literal["none", "rank1", "rankk", "full"] = "full"
    """directions that earlier tasks use and updates avoid"""
    projector_rank: Count = 20
    """rank of the projector rankk"""
    eta_v: NotNegative = 0.001
    """learning rate of the projector's vectors"""

    @model_validator(mode="after")
    def _full_is_of_rls(self) -> Self:
        if self.projector == "full" and self.readout in ("delta", "delta_current"):
            raise ValueError(
                f"projector = 'full': is the matrix of readout 'rls'; with readout = "
                f"{self.readout!r} allowed are none, rank1, rankk"
            )
        return self


@dataclass
class RankOne:
    """The published one-vector projector of a layer: v [C, out]."""

    vector: Tensor

    @classmethod
    def create(cls, compartments: int, out: int, generator: np.random.Generator) -> "RankOne":
        """v drawn as 1e-3 N(0, 1), as in the published code."""
        drawn = 1e-3 * generator.standard_normal((compartments, out))
        return cls(torch.from_numpy(drawn.astype(np.float32)))

    def project(self, update: Tensor) -> Tensor:
        """(I - v v^T / (|v|^2 + 1e-8)) dW for every compartment; dW is [C, out, ...]."""
        flat = update.flatten(2)
        v = self.vector.unsqueeze(1)
        along = (v @ flat) / ((v * v).sum(2, keepdim=True) + 1e-8)
        return (flat - v.transpose(1, 2) * along).reshape(update.shape)

    def observe(self, correlation: Tensor, rate: float) -> None:
        """v <- v + eta_v (h - (h.v) v), h = mean over inputs of the correlation [C, out, ...]."""
        h = correlation.flatten(2).mean(2)
        along = (h * self.vector).sum(1, keepdim=True)
        self.vector = self.vector + rate * (h - along * self.vector)


@dataclass
class Subspace:
    """An orthonormal basis H [k, in] of the inputs of earlier tasks, and their second moment."""

    basis: Tensor
    moment: Tensor

    @classmethod
    def create(cls, inputs: int) -> "Subspace":
        """Empty basis; the second moment of no input."""
        return cls(torch.zeros(0, inputs), torch.zeros(inputs, inputs))

    def observe(self, inputs: Tensor) -> None:
        """Add inputs [N, in] to the second moment."""
        inputs = inputs.to(self.moment)
        self.moment.addmm_(inputs.T, inputs)

    def extend(self, rank: int) -> None:
        """Add the ``rank`` leading directions of the moment that the basis lacks; clear it."""
        if rank == 0:
            return
        residual = self.project(self.project(self.moment).T)
        size = len(residual)
        values, vectors = scipy.linalg.eigh(
            residual.cpu().numpy(), subset_by_index=[max(0, size - rank), size - 1]
        )
        keep = vectors[:, values > 1e-5 * float(self.moment.trace())]  # above rounding
        basis = torch.cat([self.basis, torch.from_numpy(keep.T).to(self.basis)])
        self.basis = torch.linalg.qr(basis.T).Q.T.contiguous()
        self.moment = torch.zeros_like(self.moment)

    def state(self) -> dict[str, Tensor]:
        """H and the second moment."""
        return {"basis": self.basis, "moment": self.moment}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        self.basis, self.moment = state["basis"], state["moment"].clone()

    def project(self, update: Tensor) -> Tensor:
        """dW (I - H^T H) for dW [..., in]."""
        basis = self.basis.to(update)
        return update - (update @ basis.T) @ basis


def patches(inputs: Tensor, kernel: int, stride: int) -> Tensor:
    """Rows [N positions, in kernel kernel] that a convolution (padding 1) sees of its inputs.

    ``inputs`` is [N, in, height, width]; stride 0 is a dense layer: [N, in height width].
    """
    if stride == 0:
        return inputs.flatten(1)
    unfolded = functional.unfold(inputs, kernel, padding=1, stride=stride)
    return unfolded.transpose(1, 2).flatten(0, 1)
