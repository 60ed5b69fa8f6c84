"""The HDF5 file of one pool of a task: built once, then read without HDF5.

HDF5 may hang or crash on a damaged file, and is slow on scattered rows. So the user block at the
front of the file, which HDF5 leaves alone, holds the SHA-256 of all that follows, and JSON that
says where each array lies. The arrays are in one uncompressed piece each, and mapped into memory.

=========  ==================================================================================
images     uint8 [N, height, width] or [N, channels, height, width]; or, of streams,
events     uint32, and ``starts``, int64 [N + 1], as in :mod:`ltgate.data.streams`
labels     uint8 [N]
=========  ==================================================================================

Attributes tell the source, its content's SHA-256, the pool and the task.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ltgate import done, files
from ltgate.data.streams import Streams, check, check_labels
from ltgate.errors import one_line

BLOCK = 1024  # bytes of the user block: files are created with ``userblock_size=BLOCK``
SEAL = 32  # bytes of the checksum at its front


class Rows:
    """Some rows of a task file, all at first, read when indexed.

    Behaves like a read-only array, uint8 [N, height, width] or [N, channels, height, width], or
    with frames after N: ``shape``, ``dtype``, ``len``, ``rows[i]``, ``rows[a:b]``,
    ``rows[index_array]`` (each a fresh array) and ``np.asarray(rows)`` (all of it). Processes share
    the file's pages, and a pickle holds no image.

    Attributes:
        path: The file.
        about: ``source_sha256``, ``code``; per array its type, place, shape; a sample's ``shape``.
        indices: int64 [N].
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, about: dict[str, Any], indices: np.ndarray | None = None):
        self.path, self.about = path, about
        self.indices = np.arange(len(self.arrays["labels"])) if indices is None else indices

    def __reduce__(self) -> tuple:
        return Rows, (self.path, self.about, self.indices)

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The whole file's arrays by name."""
        return {
            name: np.asarray(np.memmap(self.path, np.dtype(kind), "r", place, tuple(shape)))
            for name, (kind, place, shape) in self.about["arrays"].items()
            if np.dtype(kind).kind in "iu"
        }

    @property
    def streams(self) -> Streams:
        """The whole file's streams."""
        return Streams(self.arrays["events"], self.arrays["starts"], tuple(self.about["shape"]))

    @property
    def shape(self) -> tuple[int, ...]:
        """N, and the shape of a sample."""
        return (len(self), *self.about["shape"])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        rows = self.indices[key]
        if "images" in self.arrays:
            return np.take(self.arrays["images"], rows, axis=0)
        some = self.streams.of(np.atleast_1d(rows)).dense()
        return some if np.ndim(rows) else some[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def read(path: Path, identity: str) -> Rows:
    """All rows of a finished file, checked once by a process for each of its versions.

    Raises:
        FileNotFoundError: There is none that this code has made.
        ValueError: It is truncated, altered, or of another source than ``identity``.
    """
    about = checked(path)
    if about["source_sha256"] != identity:
        raise ValueError("it holds images of another source")
    if about.get("code") != done.code():
        raise FileNotFoundError(f"{path}: made by other code, as good as none")
    return Rows(path, about)


@files.once_a_version
def checked(path: Path) -> dict[str, Any]:
    """What the user block tells, where all that it tells fits the file; else `ValueError`."""
    with open(path, "rb") as file:
        if file.read(SEAL) != _digest(file):
            raise ValueError("its bytes do not fit its checksum")
        file.seek(SEAL)
        block = file.read(BLOCK - SEAL)
    try:
        rows = Rows(path, about := json.loads(block))
        arrays, _ = rows.arrays, about["source_sha256"]
        check_labels(path, arrays["labels"])
        if "images" not in arrays:
            check(path, rows.streams, arrays["labels"])
        elif arrays["images"].dtype != np.uint8 or arrays["images"].shape != rows.shape:
            raise ValueError(f"its images are not uint8 {rows.shape}")
    except (AttributeError, KeyError, TypeError, OverflowError, OSError, RecursionError) as error:
        raise ValueError(f"its user block is wrong ({one_line(error)})") from None
    return about


def seal(path: Path, shape: tuple[int, ...], identity: str) -> None:
    """Write the user block of a finished file with samples of ``shape``."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        arrays = {
            name: (array.dtype.str, array.id.get_offset() or 0, array.shape)
            for name, array in file.items()
        }
    about = {"source_sha256": identity, "arrays": arrays, "shape": tuple(map(int, shape))}
    about["code"] = done.code()
    with open(path, "r+b") as file:
        file.seek(SEAL)
        file.write(json.dumps(about).encode().ljust(BLOCK - SEAL))
        sign(file)


def sign(file: BinaryIO) -> None:
    """Write the checksum of what follows it."""
    file.seek(SEAL)
    digest = _digest(file)
    file.seek(0)
    file.write(digest)


def _digest(file: BinaryIO) -> bytes:
    """The SHA-256 of what follows in a file."""
    return hashlib.file_digest(file, "sha256").digest()
