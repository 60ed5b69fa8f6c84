"""Files that are whole or absent: atomic writes and locks."""

import contextlib
import datetime
import errno
import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ltgate.errors import UserError

TEMPORARY = ".tmp"  # begins the name of a file that is being written, by us or safetensors
_FORGOTTEN = 24 * 3600  # seconds after which such a file is a killed writer's

# What a disk or a folder can refuse, by the system's numbers.
_REFUSALS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO,
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST,
}  # fmt: skip

# What a file system without locks answers, by how it is mounted.
_LOCKLESS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it to ``path`` when the block ends well.

    The temporary file keeps the suffix of ``path`` (some writers choose the format by it). After an
    exception it is removed and ``path`` is untouched. A kill leaves only the temporary file, whose
    name starts with ``.tmp-``; a day later the next writer in that folder removes it.

    Raises:
        UserError: The disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _forget(path.parent)
        handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with _refusals(path):
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: str | Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` for the block; wait for another holder, or `BlockingIOError`.

    The kernel's own lock is used, so the lock of a dead process never blocks. Who waits says for
    whom, on standard error.

    Raises:
        UserError: No lock file can be made there, or the file system has no locks.
    """
    import fcntl

    path = Path(path)
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            print(f"{path}: waiting for {holder(path)}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _LOCKLESS:
                raise
            raise UserError(
                f"{path}: this file system has no locks ({error.strerror}); have it mounted with "
                "them (NFS: its lock service; Lustre: -o flock), or keep results on another with "
                "LTGATE_HOME and data with LTGATE_DATA_CACHE"
            ) from None
        with contextlib.suppress(OSError):  # a full disk does not unmake the lock
            file.truncate(0)
            now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
            os.write(
                file.fileno(), f"process {os.getpid()} on {platform.node()} since {now}".encode()
            )
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def holder(path: str | Path) -> str:
    """Who wrote itself into the lock file ``path`` last, in words."""
    try:
        return Path(path).read_text(errors="replace").strip() or "another process"
    except OSError:
        return "another process"


def read_json(path: str | Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty when there is none or it is broken."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as a JSON file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes as hexadecimal text."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Tell in one line what the disk refuses, whatever the writer makes of it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # HDF5 and safetensors tell the system's number in their text
        told = re.search(r"(?:errno = |os error |Errno )(\d+)", str(error))
        number = getattr(error, "errno", None) or (int(told[1]) if told else 0)
        if number not in _REFUSALS:
            raise
        reason = os.strerror(number)
        raise UserError(
            f"{path}: cannot be written ({reason}); nothing there has changed"
        ) from error


def _forget(folder: Path) -> None:
    """Remove the temporary files that killed writers left long ago."""
    before = time.time() - _FORGOTTEN
    for entry in os.scandir(folder):
        if entry.name.startswith(TEMPORARY):
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < before:
                    os.unlink(entry.path)
