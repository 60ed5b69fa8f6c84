"""Checkpoints: one safetensors file of tensors, with plain data as JSON in its header.

No pickled code, so a file from a stranger can be loaded safely. Files are whole or absent, and
carry a checksum of their tensors and the record of :mod:`ltgate.done`.
"""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ltgate import done
from ltgate.errors import UserError, one_line
from ltgate.files import atomic

_BAD = (
    SafetensorError, OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError,
    AttributeError,
)  # fmt: skip


def save(
    path: str | Path,
    tensors: dict[str, Tensor],
    plain: dict[str, Any],
    record: dict[str, Any] | None = None,
) -> None:
    """Write tensors and plain (JSON) data to ``path`` atomically.

    ``record`` says what they were made from (:mod:`ltgate.done`); None: no file of the user's.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        texts = {"ltgate": json.dumps(plain), "done": json.dumps(record or done.record())}
        save_file(whole, temporary, metadata={**texts, "crc32": _checksum(whole)})


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save` wrote, whoever made it; a bad file raises one line that names it."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        plain = json.loads(metadata["ltgate"])
        if metadata["crc32"] != _checksum(tensors):
            raise ValueError("its tensors do not fit their checksum")
    except FileNotFoundError:
        raise UserError(f"checkpoint {path}: there is no such file") from None
    except _BAD as error:
        raise UserError(
            f"checkpoint {path} cannot be read ({one_line(error)}); delete it"
        ) from error
    return tensors, plain


def changed(path: str | Path) -> str:
    """What has changed since :func:`save` (see :func:`ltgate.done.changed`), or ''.

    ``it`` where there is no such file, or its header is none of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return done.changed(json.loads(file.metadata()["done"]))
    except _BAD:
        return "it"


def kept(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What a file holds that is done (:mod:`ltgate.done`); else None, and it is made anew."""
    try:
        return None if changed(path) else load(path)
    except UserError:
        return None


def restore[Result](
    path: str | Path, take: Callable[[dict[str, Tensor], dict[str, Any]], Result]
) -> Result:
    """``take(tensors, plain)`` of a checkpoint; one of another network raises one line.

    So does one that other code made, or from other images.
    """
    tensors, plain = load(path)
    if what := changed(path):
        raise UserError(f"checkpoint {path}: {what} has changed since; train it again")
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
