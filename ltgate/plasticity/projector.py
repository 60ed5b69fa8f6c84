r"""Projectors: keep updates away from what earlier tasks use.

``rank1`` (published code): one vector v of length ``out`` per compartment, moved by
v <- v + eta_v (h - (h.v) v) with h_o the mean over inputs of post_o x pre, and
dW <- (I - v v^T / (|v|^2 + 1e-8)) dW.

``rankk``: an orthonormal basis H [k, in] of the inputs that a layer saw in earlier tasks (leading
eigenvectors of their second moment); dW <- dW (I - H^T H): the layer's response to inputs inside
the subspace does not change.

``full`` acts at the readout and is :class:`ltgate.plasticity.readout.RecursiveLeastSquares`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


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
        self.moment = self.moment + inputs.T @ inputs

    def extend(self, rank: int) -> None:
        """Add the ``rank`` leading directions of the moment that the basis lacks; clear it."""
        if rank == 0:
            return
        remove = torch.eye(self.moment.shape[0]) - self.basis.T @ self.basis
        residual = remove @ self.moment @ remove
        values, vectors = torch.linalg.eigh(residual)
        keep = vectors[:, -rank:][:, values[-rank:] > 1e-5 * self.moment.trace()]  # above rounding
        basis = torch.cat([self.basis, keep.T])
        self.basis = torch.linalg.qr(basis.T).Q.T.contiguous()
        self.moment = torch.zeros_like(self.moment)

    def project(self, update: Tensor) -> Tensor:
        """dW (I - H^T H) for dW [..., in]."""
        return update - (update @ self.basis.T) @ self.basis
