"""Files that are never torn, never overwritten and never silently damaged: how a result reaches the disk.

A file is written whole to a temporary name in its own folder, synced, and only then linked to its final name.
It carries a SHA-256 of itself, so that one flipped bit anywhere in it is seen before anything is parsed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = [
    "BLANK",
    "DIGEST_KEY",
    "DamagedError",
    "StoreError",
    "StrangeError",
    "leftovers",
    "publish",
    "read",
    "replace",
    "seal",
    "set_aside",
    "sweep",
]

DIGEST_KEY = "vbench.sha256"
BLANK = "0" * 64
# Where the digest stands. A Parquet footer holds its key-value pairs as plain bytes (key, field header, length (64),
# value), safetensors a JSON header.
_MARKS = (DIGEST_KEY.encode() + b"\x18\x40", f'"{DIGEST_KEY}":"'.encode())
_STALE_SECONDS = 3600.0
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK})


class DamagedError(Exception):
    """A file that is not what was committed; the message is the reason."""


class StrangeError(DamagedError):
    """A file that may be whole: of another version, by another hand, or out of reach. It is named and left alone."""


class StoreError(OSError):
    """A file could not be written; the message is one line for the user."""


def seal(data: bytes) -> bytes:
    """Fill in the digest of a file whose metadata has ``DIGEST_KEY: BLANK``."""
    start = _digest_at(data)
    if start is None or data[start : start + 64] != BLANK.encode():
        raise ValueError(f"no blank {DIGEST_KEY} in the file's metadata")
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[start + 64 :]


def read(path: Path) -> bytes:
    """The bytes of a sealed file.

    Raises:
        DamagedError: it is not, to the bit, what was committed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StrangeError(f"unreadable: {error.strerror}") from error
    if not data:
        raise DamagedError("empty")
    start = _digest_at(data)
    if start is None:
        raise DamagedError("truncated, or not written by vbench")
    blank = data[:start] + BLANK.encode() + data[start + 64 :]
    if hashlib.sha256(blank).hexdigest().encode() != data[start : start + 64]:
        raise DamagedError("its checksum does not match")
    return data


def _digest_at(data: bytes) -> int | None:
    for mark in _MARKS:
        start = data.rfind(mark)
        if start >= 0:
            return start + len(mark)
    return None


def publish(data: bytes, folder: Path, names: Iterable[str]) -> Path:
    """Write ``data`` durably under the first of ``names`` that is free; what stands is never overwritten.

    Raises:
        StoreError: it cannot be written.
        FileExistsError: every name is taken.
    """
    with _explained(folder, len(data)):
        _make(folder)
        temporary = _write(data, folder)
    try:
        with _explained(folder, len(data)):
            path = next((folder / name for name in names if _link(temporary, folder / name, data)), None)
            _sync(folder)
    finally:
        _discard(temporary)
    if path is None:
        raise FileExistsError(f"{folder}: every name is taken")
    return path


def replace(data: bytes, path: Path) -> None:
    """Write ``data`` durably to ``path`` in one step: readers see the old file or the new one.

    Raises:
        StoreError: it cannot be written.
    """
    with _explained(path, len(data)):
        _make(path.parent)
        temporary = _write(data, path.parent)
        try:
            temporary.replace(path)
        finally:
            _discard(temporary)
        _sync(path.parent)


def set_aside(path: Path, folder: Path) -> Path | None:
    """Move a file out of the way, durably and over nothing; None where it is gone already."""
    with _explained(folder, 0):
        _make(folder)
        target = folder / f"{path.name}.{secrets.token_hex(4)}"
        try:
            path.replace(target)
        except FileNotFoundError:
            return None
        _sync(folder)
        _sync(path.parent)
    return target


@contextlib.contextmanager
def _explained(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot write {size} bytes to {path}: {error.strerror or error}"
        raise StoreError(f"{what}; what was committed before is safe, the same command goes on from it") from error


def _link(temporary: Path, path: Path, data: bytes) -> bool:
    """Give the file its final name, unless that is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # a file server may do it, lose its answer, and refuse when asked again
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create(path, data)
    return True


def _create(path: Path, data: bytes) -> bool:
    """Where no links can be made: never over another file, and half a file is seen by its checksum."""
    try:
        _put(data, path)
    except FileExistsError:
        return False
    return True


def leftovers(folder: Path) -> Iterator[Path]:
    """Temporary files of dead writers: older than an hour, or their process is gone from this host."""
    import psutil

    for path in folder.rglob(".*.tmp"):
        host, pid, _ = path.name[1:-4].rsplit(".", 2) if path.name.count(".") > 3 else ("", "", "")
        dead = host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid))
        with contextlib.suppress(FileNotFoundError):  # its writer, or another sweep, was faster
            if dead or time.time() - path.stat().st_mtime > _STALE_SECONDS:
                yield path


def sweep(folder: Path) -> int:
    """Remove them; returns how many."""
    removed = 0
    for path in leftovers(folder):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            removed += 1
    return removed


def _write(data: bytes, folder: Path) -> Path:
    # Leading dot: pandas and pyarrow pass over such files when they read the folder as one table.
    path = folder / f".{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    _put(data, path)
    return path


def _put(data: bytes, path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
    except BaseException:
        _discard(path)
        raise


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # it stays behind, for a sweep
        path.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    if os.name == "nt":  # where a folder has no handle to sync
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
