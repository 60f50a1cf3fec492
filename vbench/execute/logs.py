"""What a job prints, kept on disk up to a limit."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

__all__ = ["LIMIT", "CappedLog", "plain"]

LIMIT = 10 * 2**20
# ECMA-48: control sequences (colours, cursor), strings for the terminal (its title), two-byte escapes
_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\`-~])")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r")) + b"\x7f"
_LONGEST = 256  # of an escape that may come in two pieces
_CUT = b"\n[... output left out here ...]\n"


def plain(text: str) -> str:
    """Text that a terminal only shows, whatever it came from."""
    cleaned = _ESCAPE.sub(b"", text.encode("utf-8", "replace")).translate(None, _CONTROLS).decode()
    return "".join(char for char in cleaned if not "\x7f" <= char <= "\x9f")


class CappedLog:
    """A log file that never grows beyond ``limit`` bytes: its beginning and its latest end are kept.

    What would command a terminal (colours, its title) is left out.

    A log that cannot be written is given up in silence: a full disk must not end the job that prints.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w+b", buffering=0)
        self._limit = limit
        self._held = b""

    def write(self, data: bytes) -> None:
        """Append; past the limit, the middle goes."""
        data = _ESCAPE.sub(b"", self._held + data)
        begun = data.find(b"\x1b", max(0, len(data) - _LONGEST))
        data, self._held = (data, b"") if begun < 0 else (data[:begun], data[begun:])
        self._write(data.translate(None, _CONTROLS))

    def _write(self, data: bytes) -> None:
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
        self._write(self._held.translate(None, _CONTROLS))
        self._file.close()
