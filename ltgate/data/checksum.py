"""Checksums of HDF5 files, compared before HDF5 sees a file: it may hang or crash on a damaged one.

The checksum is the SHA-256 of all that follows it. It lies in HDF5's user block, which HDF5 leaves
alone: files are created with ``userblock_size=checksum.BYTES``.
"""

import hashlib
from pathlib import Path

BYTES = 512  # the smallest user block of HDF5

# Files whose checksum this process has checked: (path, inode, size, modification time).
_verified: set[tuple] = set()


def write(path: str | Path) -> None:
    """Write the checksum of a finished file into it."""
    with open(path, "r+b") as file:
        file.write(_of(path))


def intact(path: str | Path) -> bool:
    """Whether the file's bytes fit its checksum; `FileNotFoundError` when there is no file."""
    state = Path(path).stat()
    version = (str(path), state.st_ino, state.st_size, state.st_mtime_ns)
    if version not in _verified:
        with open(path, "rb") as file:
            if file.read(BYTES) != _of(path):
                return False
        _verified.add(version)
    return True


def _of(path: str | Path) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(BYTES)
        while block := file.read(1 << 20):
            digest.update(block)
    return f"ltgate task file, sha256 {digest.hexdigest()}\n".encode().ljust(BYTES, b"\0")
