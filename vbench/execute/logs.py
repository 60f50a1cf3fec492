"""What a job prints, kept on disk up to a limit."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["LIMIT", "CappedLog"]

LIMIT = 10 * 2**20
_CUT = b"\n[... output left out here ...]\n"


class CappedLog:
    """A log file that never grows beyond ``limit`` bytes: its beginning and its latest end are kept.

    A log that cannot be written is given up in silence: a full disk must not end the job that prints.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w+b", buffering=0)
        self._limit = limit

    def write(self, data: bytes) -> None:
        """Append; past the limit, the middle goes."""
        with contextlib.suppress(OSError):
            if self._file.tell() + len(data) > self._limit:
                self._drop_middle()
            self._file.write(data)

    def _drop_middle(self) -> None:
        # Half for the beginning and a quarter for the end: the rest is room, so that this is done seldom.
        end = self._file.tell()
        self._file.seek(max(end - self._limit // 4, self._limit // 2))
        tail = self._file.read()
        self._file.seek(self._limit // 2)
        self._file.truncate()
        self._file.write(_CUT + tail)

    def close(self) -> None:
        """No more is coming."""
        self._file.close()
