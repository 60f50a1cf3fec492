"""Files that are never torn, never overwritten and never silently damaged: how a result reaches the disk.

A file is written whole to a temporary name in its own folder, synced, and only then linked to its final name.
It carries a SHA-256 of itself, so that one flipped bit anywhere in it is seen before anything is parsed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["BLANK", "DIGEST_KEY", "DamagedError", "publish", "read", "replace", "seal", "sweep"]

DIGEST_KEY = "vbench.sha256"
BLANK = "0" * 64
# A Parquet footer holds its key-value pairs as plain bytes: key, field header, length (64), value.
_MARK = DIGEST_KEY.encode() + b"\x18\x40"
_STALE_SECONDS = 3600.0


class DamagedError(Exception):
    """A file that is not what was committed; the message is the reason."""


def seal(data: bytes) -> bytes:
    """Fill in the digest of a Parquet file whose metadata has ``DIGEST_KEY: BLANK``."""
    start = data.rfind(_MARK) + len(_MARK)
    if start < len(_MARK) or data[start : start + 64] != BLANK.encode():
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
        raise DamagedError(f"unreadable: {error.strerror}") from error
    if not data:
        raise DamagedError("empty")
    start = data.rfind(_MARK) + len(_MARK)
    if start < len(_MARK):
        raise DamagedError("truncated, or not written by vbench")
    blank = data[:start] + BLANK.encode() + data[start + 64 :]
    if hashlib.sha256(blank).hexdigest().encode() != data[start : start + 64]:
        raise DamagedError("its checksum does not match")
    return data


def publish(data: bytes, folder: Path, names: Iterable[str]) -> Path:
    """Write ``data`` durably under the first of ``names`` that is free; what stands is never overwritten."""
    _make(folder)
    temporary = _write(data, folder)
    try:
        for name in names:
            path = folder / name
            try:
                os.link(temporary, path)
            except FileExistsError:
                continue
            break
        else:
            raise FileExistsError(f"{folder}: every name is taken")
    finally:
        temporary.unlink(missing_ok=True)
    _sync(folder)
    return path


def replace(data: bytes, path: Path) -> None:
    """Write ``data`` durably to ``path`` in one step: readers see the old file or the new one."""
    _make(path.parent)
    temporary = _write(data, path.parent)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def sweep(folder: Path) -> int:
    """Remove temporary files of dead writers: older than an hour, or their process is gone from this host."""
    import psutil

    removed = 0
    for path in folder.rglob(".*.tmp"):
        host, pid, _ = path.name[1:-4].rsplit(".", 2) if path.name.count(".") > 3 else ("", "", "")
        try:
            dead = host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid))
            if dead or time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue  # its writer, or another sweep, was faster
    return removed


def _write(data: bytes, folder: Path) -> Path:
    # Leading dot: pandas and pyarrow pass over such files when they read the folder as one table.
    path = folder / f".{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


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
