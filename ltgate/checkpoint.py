"""Checkpoints: one safetensors file of tensors, with plain data as JSON in its header.

No pickled code, so a file from a stranger can be loaded safely. Files are whole or absent, and
carry a checksum of their tensors.
"""

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ltgate.errors import UserError, one_line
from ltgate.files import atomic

# What tensors were called in files of version 0.1.
EARLIER = {
    r"gate\.(\w+)": r"filters.gates.\1.variance",
    r"vector\.(\w+)": r"filters.projectors.\1.vector",
    r"subspace\.(\w+)\.(\w+)": r"filters.projectors.\1.subspace.\2",
    r"subspace\.(\w+)": r"neurons.\1.rows",
    r"subspace_momentum\.(\w+)": r"neurons.\1.momentum",
    r"readout\.basis": "readout.subspace.basis",
}


def save(path: str | Path, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Write tensors and plain (JSON) data to ``path`` atomically."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        metadata = {"ltgate": json.dumps(plain), "crc32": _checksum(whole)}
        save_file(whole, temporary, metadata=metadata)


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save` wrote; a bad file raises one line that names it."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        plain = json.loads(metadata["ltgate"])
        if "crc32" in metadata and metadata["crc32"] != _checksum(tensors):
            raise ValueError("its tensors do not fit their checksum")
    except FileNotFoundError:
        raise UserError(f"checkpoint {path}: there is no such file") from None
    except (
        SafetensorError, OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise UserError(
            f"checkpoint {path} cannot be read ({one_line(error)}); delete it"
        ) from error
    return {_now(name, tensors): tensor for name, tensor in tensors.items()}, plain


def _now(name: str, tensors: dict[str, Tensor]) -> str:
    """What the tensor is called that an earlier file has as ``name``, among its ``tensors``."""
    if name == "readout.moment" and "readout.basis" in tensors:  # of a basis, not of least squares
        return "readout.subspace.moment"
    for earlier, now in EARLIER.items():
        if found := re.fullmatch(earlier, name):
            return found.expand(now)
    return name


def restore[Result](
    path: str | Path, take: Callable[[dict[str, Tensor], dict[str, Any]], Result]
) -> Result:
    """``take(tensors, plain)`` of a checkpoint; one of another network raises one line."""
    tensors, plain = load(path)
    try:
        return take(tensors, plain)
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    except (
        KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError
    ) as error:  # fmt: skip
        raise UserError(
            f"checkpoint {path} does not fit these parameters ({one_line(error)}); delete it"
        ) from error


def keep(folder: Path, pattern: str, limit: int) -> None:
    """Delete the oldest files of ``pattern`` in ``folder`` until ``limit`` are left."""
    files = sorted(folder.glob(pattern), key=lambda file: (file.stat().st_mtime_ns, file.name))
    for file in files[: max(0, len(files) - limit)]:
        file.unlink(missing_ok=True)


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors called ``name.*``, without that prefix."""
    start = f"{name}."
    return {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}


def _checksum(tensors: dict[str, Tensor]) -> str:
    """CRC-32 of all values in the order of their names, as hexadecimal text."""
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(memoryview(tensors[name].flatten().view(torch.uint8).numpy()), found)
    return f"{found:08x}"
