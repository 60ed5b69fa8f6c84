"""Reader of IDX files, the format of MNIST (and Fashion-MNIST, KMNIST, QMNIST, EMNIST, ...).

Layout: two zero bytes, a type byte (8 = unsigned byte), the number of dimensions n, then n sizes as
big-endian unsigned 32-bit integers, then the elements in C order. Files may be gzip-compressed;
that is seen from their first bytes, not from their name.

Source: LeCun, Cortes & Burges, the MNIST database, "FILE FORMATS".
"""

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ltgate.errors import UserError

MAX_BYTES = 1 << 31
LARGEST_RATIO = 1032  # no deflate stream grows by more
_UNSIGNED_BYTE = 8
_MAX_DIMENSIONS = 4
_GZIP_MAGIC = b"\x1f\x8b"


def read(path: str | Path) -> tuple[np.ndarray, str]:
    """Read one IDX file of unsigned bytes.

    The header's size is compared with what the file can hold before memory is taken, and no more
    is read than it declares, so a forged header or a gzip bomb costs nothing.

    Returns:
        The elements, uint8 of the declared shape, read-only, and the SHA-256 of the file's
        uncompressed bytes.

    Raises:
        UserError: The file is missing, truncated, too long, not IDX, or not of unsigned bytes.
    """
    with _opened(Path(path)) as (stream, most):
        header, shape = _header(stream, path)
        size = math.prod(shape)
        if math.prod(max(n, 1) for n in shape) > MAX_BYTES:  # NumPy refuses it even with a 0 in it
            raise UserError(f"{path} is too large: shape {shape}; allowed are {MAX_BYTES} bytes")
        content = stream.read(size + 1) if len(header) + size <= most else b""
        if len(content) != size:  # gzip has compared its own checksum at the end
            fault = "truncated" if len(content) < size else "too long"
            raise UserError(f"{path} is {fault}: shape {shape} takes {len(header) + size} bytes")
    digest = hashlib.sha256(header)
    digest.update(content)
    return np.frombuffer(content, np.uint8).reshape(shape), digest.hexdigest()


def shape(path: str | Path) -> tuple[int, ...]:
    """The shape that an IDX file declares; raises as :func:`read` does."""
    with _opened(Path(path)) as (stream, _):
        return _header(stream, path)[1]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The uncompressed bytes, and how many there can be at most."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            compressed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not compressed:
                yield file, size
            else:
                with gzip.open(file) as stream:
                    yield stream, LARGEST_RATIO * size
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except EOFError:
        raise UserError(f"{path} is truncated: its gzip stream ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is not a sound gzip file: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _header(stream: BinaryIO, path: str | Path) -> tuple[bytes, tuple[int, ...]]:
    """The header's bytes and the shape in it."""
    header = stream.read(4)
    if len(header) < 4 or header[:2] != b"\0\0":
        start = header[:4].hex() or "nothing"
        raise UserError(f"{path} is not an IDX file: it starts with {start}")
    if header[2] != _UNSIGNED_BYTE:
        raise UserError(f"{path} has IDX type 0x{header[2]:02x}; allowed is 0x08 (unsigned byte)")
    if not 1 <= header[3] <= _MAX_DIMENSIONS:
        raise UserError(f"{path} has {header[3]} dimensions; allowed are 1 to {_MAX_DIMENSIONS}")
    sizes = stream.read(4 * header[3])
    if len(sizes) < 4 * header[3]:
        raise UserError(f"{path} is truncated: its header ends early")
    return header + sizes, struct.unpack(f">{header[3]}I", sizes)


def save(
    folder: str | Path,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> str:
    """Write images and labels of both pools under MNIST's file names.

    Images uint8 [N, height, width], or [N, channels, height, width]; labels uint8 [N].

    Returns:
        The parameter ``source`` that reads them, from any directory: ``idx:`` and the whole path.

    Raises:
        UserError: An array is what reading would refuse, or the pools' images differ in shape;
            nothing is written.
    """
    pools = {"train": train, "t10k": test}
    for pool, (images, labels) in pools.items():
        for name, data in (("images", images), ("labels", labels)):
            if getattr(data, "dtype", None) != np.uint8:
                kind = getattr(data, "dtype", type(data).__name__)
                raise UserError(f"{pool} {name} are {kind}; allowed is uint8")
        check(images.shape, labels.shape, f"{pool} images", f"{pool} labels")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise UserError(
            f"t10k images have shape {test[0].shape}; those of train have {train[0].shape}"
        )
    folder = Path(folder).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for pool, arrays in pools.items():
        for kind, data in zip(("images-idx3", "labels-idx1"), arrays, strict=True):
            write(folder / f"{pool}-{kind}-ubyte", data)
    return f"idx:{folder}"


def check(
    images: tuple[int, ...], labels: tuple[int, ...], of_images: object, of_labels: object
) -> None:
    """Refuse shapes that are none of a pool's images and labels; ``of_...`` names them."""
    if len(images) not in (3, 4) or 0 in images or math.prod(images) > MAX_BYTES:
        raise UserError(
            f"{of_images}: shape {images}; allowed are (N, height, width) and (N, channels, "
            f"height, width), none of them 0, at most {MAX_BYTES} bytes"
        )
    if labels != images[:1]:
        raise UserError(f"{of_labels}: shape {labels}; {of_images} needs {images[:1]}")


def write(path: str | Path, data: np.ndarray) -> None:
    """Write a uint8 array as an IDX file, compressed when ``path`` ends in ``.gz``.

    Raises:
        UserError: ``data`` is not uint8, or has no or too many dimensions.
    """
    if data.dtype != np.uint8 or not 1 <= data.ndim <= _MAX_DIMENSIONS:
        raise UserError(
            f"IDX data of type {data.dtype} with {data.ndim} dimensions; "
            f"allowed is uint8 with 1 to {_MAX_DIMENSIONS}"
        )
    header = bytes([0, 0, _UNSIGNED_BYTE, data.ndim]) + np.array(data.shape, ">u4").tobytes()
    content = header + data.tobytes()
    if os.fspath(path).endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    Path(path).write_bytes(content)
