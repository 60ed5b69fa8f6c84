r"""A subspace that Hebbian learning finds and that learning can then leave alone (HLOP).

M linear neurons with weights H [M, N] look at the activity x that some synapses see. Their
responses y = H x excite Hebbian, their reconstruction H^T y anti-Hebbian learning: Oja's rule for
subspaces, whose fixed points span the leading principal directions (Oja 1989)::

    dH = clamp(mean over the batch of y (x - H^T y)^T, -10, 10)
    m <- 0.9 m + 0.1 dH,   H <- H + rate m       (5 times per batch)

Old rows are frozen; as x - H^T y runs over all rows, new ones learn what the old leave over. A
change of weights D [out, N] is kept off the frozen rows F by D - D F^T F, after which the currents
of any x in their span are what they were.

Source: Xiao et al. 2024 (HLOP-SNN, arXiv 2402.11984), whose rates, momentum and five iterations
these are. Two things are added: what the frozen rows leave of the activity is scaled to a mean
square length of 1, so that one rate serves every layer and task; and rows are made exactly
orthonormal when they begin and when they freeze, which leaves their span as it is.
"""

import numpy as np
import torch
from torch import Tensor

from ltgate.plasticity.projector import without
from ltgate.state import Tensors

ITERATIONS, MOMENTUM, LARGEST_STEP = 5, 0.9, 10.0
ROUNDING = 1e-10  # power left over, relative to the activity's, that teaches nothing


class SubspaceNeurons(Tensors):
    """Rows H, of which the first ``frozen`` no longer learn.

    Attributes:
        rows: H, float32 [M, N].
        momentum: m of the other rows, [M - frozen, N].
    """

    grows = True
    rows: Tensor
    momentum: Tensor

    def __init__(self, inputs: int, device: str = "cpu") -> None:
        rows = torch.zeros(0, inputs, device=device)
        super().__init__(rows=rows, momentum=torch.zeros_like(rows))

    @property
    def frozen(self) -> int:
        """Number of rows that are protected and fixed."""
        return len(self.rows) - len(self.momentum)

    def extend(self, number: int, generator: np.random.Generator) -> None:
        """Add random rows, orthonormal and orthogonal to all others, as far as there is room."""
        have, inputs = self.rows.shape
        number = min(number, inputs - have)
        drawn = generator.standard_normal((number, inputs)).astype(np.float32)
        rows = torch.cat([self.rows, torch.from_numpy(drawn).to(self.rows)])
        learning = self.rows.new_zeros(have + number - self.frozen, inputs)
        self.rows, self.momentum = torch.cat([self.rows, _orthonormal(rows)[have:]]), learning

    def learn(self, activity: Tensor, rate: float) -> None:
        """The rows that are not frozen learn from activity [B, N]."""
        x = self.project(activity)  # as new rows are orthogonal to frozen ones, they see no more
        power = x.square().sum(1).mean()
        if self.frozen == len(self.rows) or power <= ROUNDING * activity.square().sum(1).mean():
            return
        x = x / power.sqrt()
        rows, momentum = self.rows[self.frozen :].clone(), self.momentum.clone()
        for _ in range(ITERATIONS):
            y = x @ rows.T
            left = x - y @ rows
            step = torch.mm(y.T, left).div_(len(x)).clamp_(-LARGEST_STEP, LARGEST_STEP)
            momentum.lerp_(step, 1 - MOMENTUM)
            rows.add_(momentum, alpha=rate)
        self.rows, self.momentum = torch.cat([self.rows[: self.frozen], rows]), momentum

    def freeze(self) -> None:
        """All rows are protected from now on."""
        rows = torch.cat([self.rows[: self.frozen], _orthonormal(self.rows)[self.frozen :]])
        self.rows, self.momentum = rows, torch.zeros_like(rows[:0])

    def project(self, change: Tensor) -> Tensor:
        """Weight changes [..., N] without their part in the span of the frozen rows."""
        return without(change, self.rows[: self.frozen])


def _orthonormal(rows: Tensor) -> Tensor:
    """Rows [M, N] made orthonormal from the first on, each kept on the side it pointed to."""
    q, r = torch.linalg.qr(rows.double().T)
    return (q * r.diagonal().sign()).T.to(rows)
