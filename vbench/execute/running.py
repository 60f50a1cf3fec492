"""One running job as its supervisor sees it: what it says and prints, how it is ended and how it ended."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

from vbench.execute import child, server
from vbench.execute.child import Ending, Setting
from vbench.execute.logs import CappedLog

__all__ = ["GRACE", "Running", "launch"]

GRACE = 4.0  # seconds between the request to end and the kill: gone within five, on a busy machine too

T = TypeVar("T")


@dataclass(eq=False)
class Running(Generic[T]):
    """A job's process and the pipes that it shares with this one.

    Attributes:
        job: whatever the caller knows it by.
        status: messages from it; None when no more can come.
        output: what it prints; None when no more can come.
        life: closed with this process, which ends the job.
        deadline: monotonic time at which it is overdue.
        ending: what it has said about its end.
        stopped: why it was asked to end.
    """

    job: T
    process: BaseProcess
    status: Connection | None
    output: Connection | None
    life: Connection
    log: CappedLog | None
    deadline: float
    started: float = field(default_factory=time.monotonic)
    ending: Ending | None = None
    stopped: Ending | None = None

    def hear(self) -> Iterator[tuple[int, int]]:
        """Progress that has arrived; its last word is kept as ``ending``."""
        try:
            while self.status and self.status.poll():
                kind, *values = json.loads(self.status.recv_bytes())
                if kind == "progress":
                    yield values[0], values[1]
                else:
                    self.ending = Ending(*values)
                    self.deadline = min(self.deadline, time.monotonic() + GRACE)
        except (EOFError, OSError):
            _close(self.status)
            self.status = None

    def drain(self) -> None:
        """Move what it has printed to its log."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(32):  # then the others have their turn
                if not self.output or not self.log:
                    return
                data = os.read(self.output.fileno(), 2**16)
                if data:
                    self.log.write(data)
                else:
                    _close(self.output)
                    self.output = None

    def stop(self, status: str, reason: str) -> None:
        """Ask it to end, unless it is ending already; ``deadline`` is then the time to kill it."""
        if not self.ending and not self.stopped:
            self.stopped = Ending(status, reason, told=False)
            self.deadline = time.monotonic() + GRACE
            self.process.terminate()

    def kill(self) -> None:
        """End it and all that it has started."""
        self.deadline = math.inf
        if sys.platform != "win32" and self.process.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def bury(self) -> Ending:
        """Take leave of a process that has ended, or has been killed; returns how it ended."""
        self.process.join()
        self.kill()
        self.drain()
        ending = self._verdict()
        for pipe in (self.status, self.output, self.life, self.log):
            _close(pipe)
        self.status = self.output = None
        self.process.close()
        return ending

    def _verdict(self) -> Ending:
        if self.ending and self.ending.told:
            return self.ending
        return self.stopped or self.ending or _autopsy(self.process.exitcode or 0)


def launch(job: T, setting: Setting, payload: bytes, log: Path, timeout: float | None) -> Running[T]:
    """Start a job's process.

    Raises:
        OSError: no process can be started here any more.
    """
    status, status_end = server.pipe()
    life_end, life = server.pipe()
    output, output_end = server.pipe() if os.name == "posix" else (None, None)
    if output:
        os.set_blocking(output.fileno(), False)
    arguments = (setting, payload, status_end, life_end, output_end)
    try:
        process = server.start(child.main, arguments)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        kept = CappedLog(log) if output else None
        return Running(job, process, status, output, life, kept, deadline)
    except BaseException:
        for end in (status, output, life):
            _close(end)
        raise
    finally:
        for end in (status_end, life_end, output_end):
            _close(end)


def _close(end: Connection | CappedLog | None) -> None:
    if end:
        end.close()


def _autopsy(code: int) -> Ending:
    """How a process ended that said nothing. Leaving with code 0 is no success: success is said."""
    if code == -getattr(signal, "SIGKILL", 9):
        return Ending("crashed", "killed by SIGKILL, by somebody or by the kernel for want of memory", told=False)
    if code < 0:
        return Ending("crashed", f"killed by {signal.Signals(-code).name}", told=False)
    doubt = " (or the process that jobs are forked from died)" if code == 255 else ""
    return Ending("crashed", f"left with exit code {code} and no result{doubt}", told=False)
