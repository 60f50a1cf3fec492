"""A disk that fails when told to, and one that forgets what was not synced when the power goes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CALLS = ("open", "write", "fsync", "link", "replace", "unlink", "mkdir", "close")


class Failing:
    """Counts the calls that the store makes below a folder, and lets the ``at``-th of them fail."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, at: int = -1) -> None:
        self.count = 0
        for name in CALLS:
            patch.setattr(os, name, self._wrapped(name, getattr(os, name), number, at))

    def _wrapped(self, name: str, real: Callable[..., Any], number: int, at: int) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            place, self.count = self.count, self.count + 1
            if place == at:
                if name == "close":
                    real(*args)
                raise OSError(number, os.strerror(number))
            return real(*args, **options)

        return call


class Recorder:
    """Everything that is done to files below ``root``, in order, as a disk would see it."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        self.root, self.log = root, []
        self._handles: dict[int, Path] = {}
        real = {name: getattr(os, name) for name in CALLS}

        def opened(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            handle = real["open"](path, flags, *rest, **options)
            self._handles[handle] = Path(path)
            if flags & os.O_CREAT:
                self._note("create", Path(path))
            return handle

        def written(handle: int, data: Any) -> int:
            count = real["write"](handle, data)
            self._note("write", self._handles[handle], bytes(data[:count]))
            return count

        def closed(handle: int) -> None:
            self._handles.pop(handle, None)
            real["close"](handle)

        def synced(handle: int) -> None:
            self._note("sync", self._handles[handle])
            real["fsync"](handle)

        def plain(name: str) -> Callable[..., Any]:
            def call(*paths: Any, **options: Any) -> Any:
                result = real[name](*paths, **options)
                self._note(name, *(Path(path) for path in paths if isinstance(path, str | os.PathLike)))
                return result

            return call

        for name, call in {"open": opened, "write": written, "close": closed, "fsync": synced}.items():
            patch.setattr(os, name, call)
        for name in ("link", "replace", "unlink", "mkdir"):
            patch.setattr(os, name, plain(name))

    def _note(self, what: str, *args: Any) -> None:
        self.log.append((what, *args))

    def acknowledge(self, what: str) -> None:
        self._note("ack", what)


class _Disk:
    """What is in memory and what is on the platter: files by number, and the names of each folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now: dict[Path, dict[str, Any]] = {root: {}}
        self.safe: dict[Path, dict[str, Any]] = {root: {}}
        self.data: dict[int, bytes] = {}
        self.synced: dict[int, bytes] = {}
        self.acked: list[str] = []
        self._numbers = itertools.count()

    def play(self, what: str, *args: Any) -> None:
        if what == "ack":
            self.acked.append(args[0])
        elif what == "create":
            number = next(self._numbers)
            self.data[number], self.synced[number] = b"", b""
            self.now[args[0].parent][args[0].name] = number
        elif what == "write":
            self.data[self._at(args[0])] += args[1]
        elif what == "sync" and args[0] in self.now:
            self.safe[args[0]] = dict(self.now[args[0]])
        elif what == "sync":
            number = self._at(args[0])
            self.synced[number] = self.data[number]
        elif what == "mkdir":
            self.now[args[0].parent][args[0].name] = "folder"
            self.now[args[0]], self.safe[args[0]] = {}, {}
        elif what == "unlink":
            del self.now[args[0].parent][args[0].name]
        else:
            self.now[args[1].parent][args[1].name] = self._at(args[0])
            if what == "replace":
                del self.now[args[0].parent][args[0].name]

    def _at(self, path: Path) -> int:
        return self.now[path.parent][path.name]

    def crashed(self, names: str, contents: str) -> dict[str, bytes]:
        """The files that a crash now would leave."""
        kept = self.now if names == "kept" else self.safe
        found: dict[str, bytes] = {}

        def walk(folder: Path) -> None:
            for name, what in kept[folder].items():
                if what == "folder":
                    walk(folder / name)
                    continue
                whole = self.data[what]
                lost = whole != self.synced[what] and contents != "kept"
                half = self.synced[what] if contents == "lost" else whole[: len(whole) // 2]
                found[str((folder / name).relative_to(self.root))] = half if lost else whole

        walk(self.root)
        return found


def crashes(root: Path, log: list[tuple[Any, ...]]) -> Iterator[tuple[dict[str, bytes], list[str]]]:
    """Every state that a loss of power could leave, with what had been acknowledged; equal ones once."""
    disk, before = _Disk(root), set()
    for entry in log:
        disk.play(*entry)
        for names, contents in itertools.product(("kept", "lost"), ("kept", "torn", "lost")):
            files = disk.crashed(names, contents)
            state = frozenset(files.items()), tuple(disk.acked)
            if state not in before:
                before.add(state)
                yield files, list(disk.acked)
