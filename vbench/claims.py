"""Who is at work on which cell, so that any number of runs, on any number of machines, share one results folder.

A claim is a file ``claims/<key>.<token>`` made by exclusive link, which works on network file systems where locks do
not. Its owner changes the file's time every few seconds, by counting and not by the clock; whoever waits for it watches
for those changes with a monotonic clock of its own. So no two clocks are ever compared, and any may jump. A claim that
has not changed for ``EXPIRY`` seconds, or whose owner is known to have died on this machine, is taken over by linking
the next token: of many who try, one succeeds. An owner that was only asleep finds its token gone and keeps no result.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from vbench import store

__all__ = ["BEAT", "EXPIRY", "Claim", "Claims", "Owner", "held", "listed", "living"]

BEAT = 10.0
EXPIRY = 90.0  # more than a file server's clients may take to see a change
_TRIES = 8
_TICK = 2 * 10**9  # nanoseconds: the coarsest times that file systems keep


@dataclass(frozen=True)
class Owner:
    """A process, known well enough to say that it has died.

    Attributes:
        host: its machine's name, for people.
        place: machine, its boot and its namespace of processes; within one a ``pid`` means one process.
        pid, started: the process and when its kernel says that it began.
        nonce: tells claims of one process apart.
    """

    host: str
    place: str
    pid: int
    started: str
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        return cls(socket.gethostname(), _place(), os.getpid(), _started(os.getpid()))

    @property
    def dead(self) -> bool:
        """Whether it is known to have died; False where that cannot be known from here."""
        return self.place == _place() and self.started != _started(self.pid)


@dataclass(frozen=True)
class Claim:
    """One cell's claim as it stands in its file; ``beat`` changes while its owner lives."""

    path: Path
    owner: Owner
    beat: int

    @property
    def key(self) -> str:
        """Of the cell."""
        return self.path.name.rpartition(".")[0]


class Claims:
    """The claims of one run on one study; inside ``with`` they are kept alive, and what the dead left is removed.

    Args:
        study: results folder of the study.
        clock: a monotonic clock.
    """

    def __init__(self, study: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = study / "claims"
        self.owner = Owner.here()
        self._clock = clock
        self._mine: dict[str, Path] = {}
        self._watched: dict[Path, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        for claim in listed(self.folder.parent):
            # killed between its result and this: nobody would ask for the cell again. Unlinked without being taken, a
            # living claim that has the same name by now could go with it
            if claim.owner.dead and self.take(claim.key) is None:
                self.release(claim.key)
        threading.Thread(target=self._keep, daemon=True, name="vbench-claims").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for key in list(self._mine):
            self.release(key)

    def take(self, key: str) -> Owner | None:
        """Claim a cell; returns None when it is ours, else who has it.

        Raises:
            StoreError: the claim cannot be written.
        """
        standing = None
        for _ in range(_TRIES):
            standing = _standing(self.folder, key)
            if standing and not self._abandoned(standing):
                return standing.owner
            token = int(standing.path.name.rpartition(".")[2]) + 1 if standing else 0
            with contextlib.suppress(FileExistsError):
                path = store.publish(json.dumps(asdict(self.owner)).encode(), self.folder, [f"{key}.{token}"])
                # a folder that changes while it is listed may hide a claim: of two the higher token is right
                if not held(path, self.owner.nonce):
                    _remove(path)
                    continue
                with self._lock:
                    self._mine[key] = path
                if standing:
                    _remove(standing.path)
                return None
        return standing.owner if standing else self.owner  # others are at it: ask again

    def mine(self, key: str) -> tuple[str, str]:
        """File and nonce of a claim of ours, for :func:`held`."""
        return str(self._mine[key]), self.owner.nonce

    def release(self, key: str) -> None:
        """Let go of a cell; nothing happens where the claim was lost."""
        with self._lock:
            path = self._mine.pop(key, None)
        if path and held(path, self.owner.nonce):
            _remove(path)

    def _abandoned(self, claim: Claim) -> bool:
        if claim.owner.dead:
            return True
        now = self._clock()
        beat, since = self._watched.get(claim.path, (None, now))
        if beat != claim.beat:
            since = now
        self._watched[claim.path] = claim.beat, since
        return now - since > EXPIRY

    def _keep(self) -> None:
        while not self._over.wait(BEAT):
            self.beat()

    def beat(self) -> None:
        """Show that we live."""
        with self._lock:
            mine = list(self._mine.values())
        for path in mine:
            with contextlib.suppress(OSError):  # lost, or out of reach for now: its owner finds out before it commits
                if held(path, self.owner.nonce):
                    beat = path.stat().st_mtime_ns + _TICK
                    os.utime(path, ns=(beat, beat))


def held(path: Path, nonce: str) -> bool:
    """Whether the claim at ``path`` still is that of ``nonce`` and no later one has replaced it."""
    claim = _read(path)
    if claim is None or claim.owner.nonce != nonce:
        return False
    standing = _standing(path.parent, claim.key)
    return standing is not None and standing.path == path


def listed(study: Path) -> list[Claim]:
    """Every claim on a study's cells, whoever has it."""
    folder = study / "claims"
    keys = {path.name.rpartition(".")[0] for path in folder.glob("[!.]*")}
    return [claim for key in sorted(keys) if (claim := _standing(folder, key))]


def living(study: Path) -> list[Claim]:
    """Those whose owner is not known to have died."""
    return [claim for claim in listed(study) if not claim.owner.dead]


def _standing(folder: Path, key: str) -> Claim | None:
    """The claim with the highest token."""
    for _ in range(_TRIES):
        tokens = [path for path in folder.glob(f"{key}.*") if path.name.rpartition(".")[2].isdigit()]
        for path in sorted(tokens, key=lambda path: int(path.name.rpartition(".")[2]), reverse=True):
            if claim := _read(path):
                return claim
        if not tokens:
            break  # else all were gone when they were looked at, and another may stand
    return None


def _read(path: Path) -> Claim | None:
    """None where it is gone. One that is no claim belongs to nobody whom one could know: it can only expire."""
    try:
        beat = path.stat().st_mtime_ns
        data = path.read_bytes()
    except OSError:
        return None
    try:
        return Claim(path, Owner(**json.loads(data)), beat)
    except (TypeError, ValueError):
        return Claim(path, Owner("an unknown machine", "", 0, "", ""), beat)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # what stays has a dead owner
        path.unlink()


@functools.cache
def _place() -> str:
    words = [socket.gethostname(), f"{uuid.getnode():x}"]
    with contextlib.suppress(OSError):  # elsewhere than on Linux these two must do
        words = [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), str(Path("/proc/self/ns/pid").readlink())]
    return " ".join(words)


def _started(pid: int) -> str:
    """When a process began, as a text that another process with its number would not have; empty when it is gone."""
    try:
        # field 22, ticks since the boot; the name before it may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        import psutil

        with contextlib.suppress(psutil.Error):
            return str(round(psutil.Process(pid).create_time()))
        return ""
