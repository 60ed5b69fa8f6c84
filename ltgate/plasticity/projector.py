r"""Projectors: keep updates away from what earlier tasks use.

``rank1`` (published code): one vector v of length ``out`` per compartment, moved by
v <- v + eta_v (h - (h.v) v) with h_o the mean over inputs of post_o x pre, and
dW <- (I - v v^T / (|v|^2 + 1e-8)) dW.

``rankk``: an orthonormal basis H [k, in] of the inputs that a layer, or a delta rule's readout, saw
in earlier tasks (leading eigenvectors of their second moment); dW <- dW (I - H^T H): the response
to inputs inside the subspace does not change. (A Hebbian update then brings each neuron's weights
back to their length, which scales its response.)

``full`` acts at the readout and is :class:`ltgate.plasticity.readout.RecursiveLeastSquares`.

A new projector is a subclass of :class:`Projector` and one entry in ``PROJECTORS``.
"""

from typing import TYPE_CHECKING, Annotated

import numpy as np
import scipy.linalg
import torch
from torch import Tensor
from torch.nn import functional

from ltgate.declare import Count, Group, NotNegative, OneOf
from ltgate.network import KERNEL, Layer
from ltgate.registry import Registry
from ltgate.state import Tensors

if TYPE_CHECKING:
    from ltgate.params import Params

PROJECTORS = Registry()  # name -> subclass of Projector


class ProjectorParameters(Group, late=True):
    """Projector."""

    projector: Annotated[str, OneOf(PROJECTORS)] = "full"
    """directions that earlier tasks use and updates avoid"""
    projector_rank: Count = 20
    """rank of the projector rankk"""
    eta_v: NotNegative = 0.001
    """learning rate of the projector's vectors"""


def without(change: Tensor, rows: Tensor) -> Tensor:
    """D - D H^T H: changes [..., in] without their part in the span of orthonormal rows [k, in]."""
    rows = rows.to(change)
    return change - (change @ rows.T) @ rows


class Subspace(Tensors):
    """An orthonormal basis H [k, in] of the inputs of earlier tasks, and their second moment."""

    grows = True
    basis: Tensor
    moment: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__(basis=torch.zeros(0, inputs), moment=torch.zeros(inputs, inputs))

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

    def project(self, update: Tensor) -> Tensor:
        """dW (I - H^T H) for dW [..., in]."""
        return without(update, self.basis)


@PROJECTORS.add("none")
class Projector(Tensors):
    """What keeps the updates of one layer away from earlier tasks; this one lets all pass.

    Attributes:
        vector: The published rule's v [C, out], drawn as 1e-3 N(0, 1). Every learner draws one a
            layer, whatever its projector, so that all go on with the same random numbers.
    """

    vector: Tensor

    def __init__(self, layer: Layer, params: "Params", generator: np.random.Generator) -> None:
        drawn = 1e-3 * generator.standard_normal(layer.weight.shape[:2])
        super().__init__(vector=torch.from_numpy(drawn.astype(np.float32)))
        self.params, self.stride = params, layer.stride

    def project(self, update: Tensor, samples: int, inputs: Tensor) -> Tensor:
        """The part of an update that may act; and learn what it was led by.

        Args:
            update: dW [C, out, ...], summed over a batch.
            samples: Images times steps of the batch.
            inputs: What the layer received [N, in, height, width].
        """
        return update

    def end_task(self) -> None:
        """What the task used is that of an earlier one from now on."""


@PROJECTORS.add("rank1")
class RankOne(Projector):
    """The published rule: one vector of a layer's outputs per compartment."""

    def project(self, update: Tensor, samples: int, inputs: Tensor) -> Tensor:
        """Without the part along v, which then moves."""
        allowed = self.across(update.cpu()).to(update)
        self.observe((update / samples).cpu(), self.params.eta_v)
        return allowed

    def across(self, update: Tensor) -> Tensor:
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


@PROJECTORS.add("rankk")
class RankK(Projector):
    """A basis of the inputs of earlier tasks."""

    def __init__(self, layer: Layer, params: "Params", generator: np.random.Generator) -> None:
        super().__init__(layer, params, generator)
        self.subspace = Subspace(layer.weight[0, 0].numel())

    def project(self, update: Tensor, samples: int, inputs: Tensor) -> Tensor:
        """Without the part inside the basis; the second moment of the inputs grows."""
        flat = self.subspace.project(update.flatten(2).cpu())
        self.subspace.observe(patches(inputs, KERNEL, self.stride))
        return flat.reshape(update.shape).to(update)

    def end_task(self) -> None:
        """``projector_rank`` directions more."""
        self.subspace.extend(self.params.projector_rank)


PROJECTORS["full"] = Projector  # of layers; at the readout it is recursive least squares


def patches(inputs: Tensor, kernel: int, stride: int) -> Tensor:
    """Rows [N positions, in kernel kernel] that a convolution (padding 1) sees of its inputs.

    ``inputs`` is [N, in, height, width]; stride 0 is a dense layer: [N, in height width].
    """
    if stride == 0:
        return inputs.flatten(1)
    unfolded = functional.unfold(inputs, kernel, padding=1, stride=stride)
    return unfolded.transpose(1, 2).flatten(0, 1)
