r"""HLOP: weight changes orthogonal to the subspaces that earlier tasks used (Xiao et al. 2024).

The forward pass is that of the network, unchanged. Beside every layer M linear neurons with weights
H [M, N] look at its presynaptic rates x (of a convolution: its patches), others at the readout's
inputs. Their responses y = H x excite Hebbian, their reconstruction H^T y anti-Hebbian learning:
Oja's rule for subspaces, whose fixed points span the leading principal directions (Oja 1989)::

    dH = clamp(mean over the batch of y (x - H^T y)^T, -10, 10)
    m <- 0.9 m + 0.1 dH,   H <- H + rate m       (5 times per batch)

Old rows are frozen after their task; as x - H^T y runs over all rows, new ones learn what the old
leave over. From the second task on each weight change D [out, N] is replaced by D - D F^T F with
the frozen rows F, after which the currents of any x in their span are what they were.

The compartments of a layer see the same inputs and share its subspace. Thresholds never change; the
readout's bias does only in the first task. What the projection leaves exactly in place are the
currents of full-precision weights; the forward pass rounds these to their grid of 2^-10.

Source: Xiao et al. 2024 (HLOP-SNN, arXiv 2402.11984), whose rates, momentum and five iterations
these are. Two things are added: what the frozen rows leave of the activity is scaled to a mean
square length of 1, so that one rate serves every layer and task; and rows are made exactly
orthonormal when they begin and when they freeze, which leaves their span as it is.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ltgate.data.store import TaskImages
from ltgate.data.tasks import Schedule, TaskSpec, schedule
from ltgate.declare import Group, Positive, Share
from ltgate.methods.base import METHODS
from ltgate.methods.gradient import READOUT, GradientLearner
from ltgate.network import KERNEL, Network
from ltgate.plasticity.projector import patches, without
from ltgate.state import Tensors

if TYPE_CHECKING:
    from ltgate.params import Params

ITERATIONS, MOMENTUM, LARGEST_STEP = 5, 0.9, 10.0
ROUNDING = 1e-10  # power left over, relative to the activity's, that teaches nothing


class HLOPParameters(Group, late=True):
    """Method hlop."""

    hlop_first: Share = 0.2
    """subspace of the first task, share of a layer's inputs"""
    hlop_next: Share = 0.1
    """subspace of each later task, share of a layer's inputs"""
    hlop_rate: Positive = 1.0
    """learning rate of the subspace neurons"""


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


@METHODS.add("hlop")
class HLOP(GradientLearner):
    """Subspaces learned in each task, frozen after it, and left alone from then on."""

    preset: ClassVar[dict[str, Any]] = {
        **GradientLearner.preset,
        "head_rate": 0.01,
        "hlop_first": 0.3,
        "hlop_next": 0.1,
    }

    def __init__(self, params: "Params", generator: np.random.Generator) -> None:
        super().__init__(params, generator)
        neurons = {
            layer.name: SubspaceNeurons(layer.weight[0, 0].numel(), self.device)
            for layer in self.used.layers
        }
        neurons[READOUT] = SubspaceNeurons(len(self.readout.weight) - 1)  # not the bias
        self.neurons = nn.ModuleDict(neurons)

    def begin_task(self, position: int, images: TaskImages) -> None:
        """New subspace neurons."""
        super().begin_task(position, images)
        share = self.params.hlop_next if position else self.params.hlop_first
        for neurons in self.neurons.values():
            inputs = neurons.rows.shape[1]
            neurons.extend(max(1, round(share * inputs)), self.generator)

    def end_task(self, position: int) -> None:
        """What was learned is protected from now on."""
        for neurons in self.neurons.values():
            neurons.freeze()

    def _allowed(self, name: str, gradient: Tensor) -> Tensor:
        if self.position == 0:
            return gradient
        neurons = self.neurons[name]
        if name == READOUT:
            projected = neurons.project(gradient[..., :-1])
            return torch.cat([projected, torch.zeros_like(gradient[..., -1:])], 2)
        return neurons.project(gradient.flatten(2)).view_as(gradient)

    def _observe(self, task: TaskSpec, pixels: np.ndarray, counts: dict[str, Tensor]) -> None:
        rate = self.params.hlop_rate
        steps = schedule(task, self.params.presentation)
        seen = rates(self.used, pixels, counts, steps)
        for layer in self.used.layers:
            inputs = patches(seen[layer.name], KERNEL, layer.stride)
            self.neurons[layer.name].learn(inputs, rate)
        inputs = self.readout_inputs(counts)[:, :-1]
        self.neurons[READOUT].learn(inputs.float().cpu(), rate)


def rates(
    network: Network, images: np.ndarray | Tensor, counts: dict[str, Tensor], schedule: Schedule
) -> dict[str, Tensor]:
    """Mean input of each layer per step: float32 [B, channels, height, width] by layer name.

    For the first layer that is the mean pixel current or events, for the others spikes per step;
    ``counts`` are the network's, by layer, of ``images`` shown by ``schedule``.
    """
    images = torch.as_tensor(images).to(network.layers[0].weight.device)
    if images.ndim == 5:  # a stream: the share of steps with an event
        inputs = [images.sum(1).float() / len(schedule)]
    else:
        inputs = [network.pixels(images) * float(schedule.drive.mean())]
    inputs += [counts[name].float() / len(schedule) for name in network.names[:-1]]
    return dict(zip(network.names, inputs, strict=True))
