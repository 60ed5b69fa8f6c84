"""Checkpoints: one safetensors file of tensors, with plain data as JSON in its header.

No pickled code, so a file from a stranger can be loaded safely. Files are whole or absent.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ltgate.errors import UserError
from ltgate.files import atomic


def save(path: str | Path, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Write tensors and plain (JSON) data to ``path`` atomically."""
    with atomic(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={"ltgate": json.dumps(plain)},
        )


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save` wrote; a bad file raises one line that names it."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            plain = json.loads(file.metadata()["ltgate"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"checkpoint {path} cannot be read ({error}); delete it") from error
    return tensors, plain


def keep(folder: Path, pattern: str, limit: int) -> None:
    """Delete the oldest files of ``pattern`` in ``folder`` until ``limit`` are left."""
    files = sorted(folder.glob(pattern), key=lambda file: (file.stat().st_mtime_ns, file.name))
    for file in files[: max(0, len(files) - limit)]:
        file.unlink(missing_ok=True)
