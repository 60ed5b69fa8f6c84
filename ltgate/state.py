"""Modules whose state is a few named tensors."""

from torch import Tensor, nn


class Tensors(nn.Module):
    """Buffers, by name; ``state_dict`` and ``load_state_dict`` are PyTorch's.

    Loading copies, onto the device and into the dtype that a tensor has, and checks shapes. Where
    it ``grows`` the first dimension may be another. Tensors of other names are left alone.
    """

    grows = False

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def __getitem__(self, name: str) -> Tensor:
        return self._buffers[name]

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        self._buffers[name] = tensor

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *_) -> None:
        for name, own in self._buffers.items():
            value = state_dict[prefix + name]
            if value.shape[self.grows :] != own.shape[self.grows :]:
                raise ValueError(
                    f"{prefix}{name} has shape {tuple(value.shape)}, needed is {tuple(own.shape)}"
                )
            self._buffers[name] = value.to(own, copy=True)
