"""Jobs on this machine, each in a fresh process: what one does, or how it dies, never reaches another."""

from __future__ import annotations

import contextlib
import functools
import heapq
import json
import math
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from vbench.execute import child, server
from vbench.execute.child import Ending, Setting
from vbench.execute.logs import CappedLog

__all__ = ["Event", "Executor", "Job"]

GRACE = 5.0  # seconds between the request to end and the kill


@dataclass(frozen=True)
class Job:
    """One call of the target.

    Attributes:
        key: names the job, and its log file.
        payload: plain data that can be pickled.
        after: keys of jobs that must have ended, however, before this one starts.
    """

    key: str
    payload: Any
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """A job has started, gone on or ended; ``status``, ``reason`` and ``seconds`` belong to the end."""

    kind: Literal["started", "progress", "ended"]
    key: str
    step: int = 0
    steps: int = 0
    status: str = ""
    reason: str = ""
    seconds: float = 0.0


OnEvent = Callable[[Event], None]
Lost = Callable[[Job, str, str], None]


class Executor:
    """Runs jobs, as many at once as there are workers.

    Args:
        target: ``package.module:function``, called with the payload and ``report(step, steps)``; it keeps its own
            results and returns its status.
        workers: processes at once; 0 runs the jobs in this process, without limits, for a debugger.
        threads: torch threads of each.
        timeout: seconds that a job may take.
        memory: bytes of address space that a job may take.
        log_folder: what a job prints goes to ``<key>.log`` here.
        preload: libraries that jobs find already imported.
    """

    def __init__(
        self,
        target: str,
        *,
        workers: int,
        threads: int = 1,
        timeout: float | None = None,
        memory: int | None = None,
        log_folder: Path,
        preload: Sequence[str] = server.PRELOAD,
    ) -> None:
        self.target = target
        self.workers = workers
        self.threads = threads
        self.timeout = timeout
        self.memory = memory
        self.log_folder = log_folder
        self.preload = preload

    def warm(self) -> None:
        """Begin to load the libraries now, so that the first job need not wait for them."""
        if self.workers:
            server.warm(self.threads, self.preload)

    def run(self, jobs: Sequence[Job], on_event: OnEvent, lost: Lost) -> None:
        """Run all jobs; returns when the last has ended.

        Args:
            jobs: started in this order, as far as ``after`` allows.
            on_event: called for each event, in this thread.
            lost: called with ``(job, status, reason)``, once, for a job whose target did not return a status:
                ``failed``, ``crashed``, ``timeout``, ``oom`` or ``interrupted``.

        Raises:
            KeyboardInterrupt: Ctrl-C; running jobs were ended and reported as lost, the others not touched. A
                second Ctrl-C kills and raises at once. SIGTERM is treated the same, then delivered.
            ValueError: two jobs with one key, or jobs that wait for each other.
        """
        queue = _Queue(jobs)
        if not self.workers:
            _run_here(self, queue, on_event, lost)
            return
        self.warm()
        supervisor = _Supervisor(self, queue, on_event, lost)
        with supervisor.signals():
            supervisor.run()
        if supervisor.stopped:
            signal.raise_signal(supervisor.stopped)
            raise KeyboardInterrupt


class _Queue:
    """Jobs in their order, each when those before it have ended."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = list(jobs)
        self._places = {job.key: place for place, job in enumerate(jobs)}
        if len(self._places) < len(self._jobs):
            raise ValueError("two jobs have the same key")
        places = self._places
        self._graph = TopologicalSorter({j.key: [k for k in j.after if k in places] for j in jobs})
        self._graph.prepare()
        self._ready: list[int] = []

    def next(self) -> Job | None:
        for key in self._graph.get_ready():
            heapq.heappush(self._ready, self._places[key])
        return self._jobs[heapq.heappop(self._ready)] if self._ready else None

    def done(self, job: Job) -> None:
        self._graph.done(job.key)


@dataclass(eq=False)
class _Running:
    job: Job
    process: BaseProcess
    status: Connection
    life: Connection
    output: Connection | None
    log: CappedLog | None
    deadline: float
    started: float = field(default_factory=time.monotonic)
    ending: Ending | None = None
    stopped: Ending | None = None
    over: bool = False

    def stop(self, ending: Ending) -> None:
        """Ask it to end; the kill follows at the deadline."""
        if self.ending is None and self.stopped is None:
            self.stopped, self.deadline = ending, time.monotonic() + GRACE
            self.process.terminate()

    def kill(self) -> None:
        """End it and all that it has started."""
        self.deadline = math.inf
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()

    def listen(self) -> Iterator[list[Any]]:
        """Messages that have arrived; the last one is its ending."""
        with contextlib.suppress(EOFError, OSError):
            while self.ending is None and self.status.poll():
                kind, *values = json.loads(self.status.recv_bytes())
                if kind == "ended":
                    self.ending = Ending(*values)
                    self.deadline = min(self.deadline, time.monotonic() + GRACE)
                else:
                    yield values
            return
        self.over = True

    def drain(self) -> None:
        """Move what it has printed to the log."""
        if self.output is None or self.log is None:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(32):  # a flood must not keep the others waiting
                data = os.read(self.output.fileno(), 2**16)
                if not data:
                    self.output.close()
                    self.output = None
                    return
                self.log.write(data)
