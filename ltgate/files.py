"""Files that are whole or absent: atomic writes and locks."""

import contextlib
import datetime
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from ltgate import progress
from ltgate.errors import UserError

COARSE_S = 2  # the longest step of a file system's clock
VERSIONS = 512  # of files, that a process remembers something of
TEMPORARY = ".tmp-"  # begins the name of a file or a folder with one that is being written
_WRITER = f"{TEMPORARY}ltgate-{platform.node()}-"  # and the process

# What a disk or a folder can refuse, by the system's numbers.
_REFUSALS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO,
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST,
}  # fmt: skip

# What a file system without locks answers, by how it is mounted.
_LOCKLESS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a path of the same name in a folder of our own; move it to ``path`` when all went well.

    After an exception that folder is removed and ``path`` is untouched. A kill leaves the folder,
    which begins with ``.tmp-`` and tells the writer's machine and process; the next writer there
    removes it once that process is gone. Who else may read the file is as the user's umask has it.

    Raises:
        UserError: The disk is full, the folder cannot be written to, or ``path`` is a link, a
            device or the like, which is not replaced.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path}: is a link, a folder or a device; only plain files are replaced")
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _forget(path.parent)
        own = Path(tempfile.mkdtemp(prefix=f"{_WRITER}{os.getpid()}-", dir=path.parent))
    try:
        with _refusals(path):
            temporary = own / path.name
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            (own / "mode").mkdir()  # as new files and folders are made here
            temporary.chmod((own / "mode").stat().st_mode & 0o666)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(own, ignore_errors=True)


@contextlib.contextmanager
def lock(path: str | Path, wait: bool = True, shared: bool = False) -> Iterator[None]:
    """Hold the lock file ``path`` for the block; wait for another holder, or `BlockingIOError`.

    The kernel's own lock is used, so the lock of a dead process never blocks. Who waits says for
    whom, on standard error. Several may hold it ``shared``, but none beside one that is not.

    Raises:
        UserError: No lock file can be made there, or the file system has no locks.
    """
    import fcntl

    path = Path(path)
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            if not progress.unseen():
                print(f"{path}: waiting for {holder(path)}", file=sys.stderr, flush=True)
            fcntl.flock(file, kind)
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


def replace_between(page: Path, start: str, end: str, text: str) -> None:
    """Put ``text`` between two marks of a page, where there is such a page."""
    if page.exists():
        before, _, rest = page.read_text(encoding="utf-8").partition(start)
        with atomic(page) as temporary:
            kept = rest[rest.index(end) :]
            temporary.write_text(before + start + text + kept, encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def once_a_version[Result](function: Callable[[Path], Result]) -> Callable[[Path], Result]:
    """``function`` of a file, computed once by a process for each version of the file.

    Versions differ in number, size or times; the time of the last change (ctime) cannot be set by
    whoever replaces a file. One that has changed within the last seconds, which a coarse clock may
    not tell from its next change, is looked at each time. The last `VERSIONS` are kept.
    """
    kept: dict[tuple, Result] = {}

    def found(path: Path) -> Result:
        now = path.stat()
        version = (path, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        if version in kept:
            return kept[version]
        settled = abs(time.time() - now.st_ctime) > COARSE_S
        result = function(path)
        if settled:
            kept[version] = result
            if len(kept) > VERSIONS:
                del kept[next(iter(kept))]
        return result

    return found


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
    """Remove what writers of this machine left here that are no longer alive."""
    for left in folder.glob(f"{_WRITER}*"):
        if not psutil.pid_exists(int(left.name.removeprefix(_WRITER).partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
