"""The integer network as an HDF5 file in the layout that lava-dl's NetX reads (``.net``).

``layer/0`` is the input, then one group a layer (``conv``, ``flatten`` and ``dense``) with integer
weights [K x out, in, 3, 3] or [K x out, in], fast compartment first, ``shape`` [channels, height,
width] of the neurons, ``stride``, ``padding``, ``dilation``, ``groups`` (a Dense of NetX rescales
weights to 8 bits by itself: they are written as they are).

NetX knows no dual-compartment neuron. The type here is ``LTGATE``: ``Network.get_neuron_params``
must be taught it (:class:`ltgate.loihi.lava_backend.processes.neuron.LTGate`, whose input has K x
out channels). Its group holds what a neuron of NetX has, ``vDecay`` and ``vThMant``, and what it
has not: ``vThShift``, ``exponent``, ``gate``, ``output``, ``reset``. The readout is not in it.

An exchange format: :meth:`ltgate.loihi.quantnet.QuantNetwork.save` keeps everything. Source:
``lava.lib.dl.netx`` of lava-dl 0.6; written from its reader, not tried with it here.
"""

from pathlib import Path

import h5py
import numpy as np

from ltgate.files import atomic
from ltgate.loihi.quantnet import QuantLayer, QuantNetwork


def write(net: QuantNetwork, path: str | Path) -> Path:
    """Write ``net`` to ``path``, whole or not at all."""
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        groups = file.create_group("layer")
        _fill(groups, "input", net.layers[0].in_shape)
        spatial = True
        for layer in net.layers:
            if spatial and not layer.is_conv:
                _fill(groups, "flatten", (int(np.prod(layer.in_shape)),))
            spatial = layer.is_conv
            group = _fill(groups, "conv" if layer.is_conv else "dense", layer.out_shape)
            group["weight"] = layer.weight.reshape(-1, *layer.weight.shape[2:]).astype(np.int32)
            if layer.is_conv:
                for name, value in (("stride", layer.stride), ("padding", layer.padding),
                                    ("dilation", 1)):  # fmt: skip
                    group[name] = np.array([value, value])
                group["groups"] = 1
            _neuron(group.create_group("neuron"), net, layer)
    return Path(path)


def _fill(groups: h5py.Group, kind: str, shape: tuple[int, ...]) -> h5py.Group:
    group = groups.create_group(str(len(groups)))
    group["type"] = np.bytes_(kind)
    group["shape"] = np.array(shape)
    return group


def _neuron(group: h5py.Group, net: QuantNetwork, layer: QuantLayer) -> None:
    group["type"] = np.bytes_("LTGATE")
    group["vDecay"] = net.decay
    group["vThMant"] = layer.mantissa
    group["vThShift"] = layer.shift
    group["exponent"] = layer.exponent
    group["gate"] = layer.gate
    group["output"] = np.bytes_(net.output)
    group["reset"] = np.bytes_(net.reset)
