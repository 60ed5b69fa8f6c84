"""The floor of dense computing: the network's convolutions and products alone, nothing else."""

import torch
import torch.nn.functional as functional

from ltgate.perf.bench import RATE, Workload


class Convolutions:
    """All layers' dense currents for a batch, without neurons: no state, no spikes to count.

    Time is folded into the batch; ``images`` and ``steps`` are worked on at once, so that buffers
    stay in the cache. Inputs are random 0/1 at the network's rate: dense work does not depend on
    them. The first layer's current is computed once per image.

    Args:
        workload: Gives network, number of images, number of steps and device.
        images, steps: Worked on at once.
        channels_last: Layout of the convolutions.
        dtype: Of weights, inputs and currents.
    """

    def __init__(
        self,
        workload: Workload,
        images: int = 8,
        steps: int = 20,
        channels_last: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        total = len(workload.steps)
        images, steps = min(images, len(workload.images)), min(steps, total)
        self.rounds = -(-len(workload.images) // images) * -(-total // steps)
        self.layers = workload.network.layers
        layout = torch.channels_last if channels_last else torch.contiguous_format
        generator = torch.Generator().manual_seed(0)
        self.inputs, self.weights = [], []
        for index, layer in enumerate(self.layers):
            number = images * steps if index else len(workload.images)
            spikes = torch.rand(number, *layer.in_shape, generator=generator) < RATE
            weight = layer.forward_weight.flatten(0, 1).to(dtype)
            inputs = spikes.to(workload.device, dtype)
            if layer.is_conv:
                weight, inputs = weight.to(memory_format=layout), inputs.to(memory_format=layout)
            else:
                inputs = inputs.flatten(1)
            self.weights.append(weight)
            self.inputs.append(inputs)

    @torch.no_grad()
    def run(self) -> None:
        """The dense work of one batch."""
        self._currents(0)
        for _ in range(self.rounds):
            for index in range(1, len(self.layers)):
                self._currents(index)

    def _currents(self, index: int) -> torch.Tensor:
        layer, weight, inputs = self.layers[index], self.weights[index], self.inputs[index]
        if layer.is_conv:
            return functional.conv2d(inputs, weight, stride=layer.stride, padding=1)
        return inputs @ weight.T
