"""What jobs are, in which order they start, and what is told of them: the same wherever they run."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal, Protocol

from vbench.execute.child import Ending

__all__ = [
    "Admit",
    "Event",
    "Executor",
    "ExecutorError",
    "Job",
    "JobQueue",
    "Limits",
    "Lost",
    "OnEvent",
    "Runner",
    "Wait",
    "admitted",
]


class ExecutorError(RuntimeError):
    """These jobs cannot be run here; the message is one line that says what to do."""


@dataclass(frozen=True)
class Limits:
    """What every job of a run is held to; plain data, so that it travels to where the jobs run.

    Attributes:
        target: ``package.module:function``, called with the payload and ``report(step, steps)``; it keeps its own
            results and returns its status.
        log_folder: what a job prints goes to ``<key>.log`` here; absolute.
        threads: torch threads of each.
        timeout: seconds that a job may take.
        memory: bytes of data that each process of a job may take.
    """

    target: str
    log_folder: Path
    threads: int = 1
    timeout: float | None = None
    memory: int | None = None


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
    """A job has started, gone on or ended, or must wait; ``status`` and ``seconds`` belong to the end."""

    kind: Literal["started", "progress", "ended", "waiting"]
    key: str
    step: int = 0
    steps: int = 0
    status: str = ""
    reason: str = ""
    seconds: float = 0.0


OnEvent = Callable[[Event], None]
Lost = Callable[[Job, str, str], None]
Admit = Callable[[Job], "Job | Wait | str"]
_AGAIN = 1.0  # seconds until a job that must wait asks again


@dataclass(frozen=True)
class Wait:
    """A job cannot start yet; ``reason`` is for people."""

    reason: str


def admitted(job: Job) -> Job:
    """Every job may start as it is."""
    return job


class Executor(Protocol):
    """Runs jobs. Its factory is given ``limits`` (:class:`Limits`) and ``workers``, how many jobs at once.

    Without workers jobs run in this process, where the executor can do that.
    A job that was killed with its worker may be run again, but never twice at once; that its result counts once is
    not the executor's doing.

    Attributes:
        at_once: how many jobs it runs at most at a time; infinite where that is decided elsewhere.
    """

    at_once: float

    def warm(self) -> None:
        """Begin what takes long and needs no job, if there is such a thing."""

    def run(self, jobs: Sequence[Job], on_event: OnEvent, lost: Lost, admit: Admit = admitted) -> None:
        """Run all jobs, each in a process of its own; returns when the last has ended, and leaves none behind.

        Args:
            jobs: started in this order, as far as ``after`` allows.
            on_event: called for each event, in this thread: one start, progress (if it can be told) and one end each.
            lost: called with ``(job, status, reason)``, once, before its end, for a job whose target did not return a
                status: ``failed``, ``crashed``, ``timeout``, ``oom`` or ``interrupted``.
            admit: called with a job that is about to start; returns the job to start, a ``Wait`` to be asked again,
                or the status of a job that has ended elsewhere.

        Raises:
            ExecutorError: no job can be run.
            KeyboardInterrupt: Ctrl-C; running jobs were ended, the others not touched.
            ValueError: two jobs with one key, or jobs that wait for each other.
        """


class JobQueue:
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
        self._later: list[tuple[float, int]] = []

    @property
    def again(self) -> float:
        """Monotonic time at which a job that must wait is to be asked again; infinite where none is."""
        return min(self._later)[0] if self._later else math.inf

    def later(self, job: Job) -> None:
        """Let a job wait, and others go before it."""
        self._later.append((time.monotonic() + _AGAIN, self._places[job.key]))

    def next(self) -> Job | None:
        """The first job that may be asked now."""
        now = time.monotonic()
        for waiting in [item for item in self._later if item[0] <= now]:
            self._later.remove(waiting)
            heapq.heappush(self._ready, waiting[1])
        for key in self._graph.get_ready():
            heapq.heappush(self._ready, self._places[key])
        return self._jobs[heapq.heappop(self._ready)] if self._ready else None

    def done(self, job: Job) -> None:
        """It has ended: what waited for it may start."""
        self._graph.done(job.key)


class Runner:
    """What all executors have in common: which job starts when, and telling the caller.

    An executor asks it for the :meth:`next` job while it has room, passes on what it hears by :meth:`tell`, and says
    of each job how it :meth:`ended`. All is done when nothing runs and :attr:`again` is infinite.
    """

    def __init__(self, jobs: Sequence[Job], on_event: OnEvent, lost: Lost, admit: Admit = admitted) -> None:
        self._jobs = JobQueue(jobs)
        self._on_event = on_event
        self._lost = lost
        self._admit = admit
        self._delayed: set[str] = set()
        self._started: set[str] = set()

    @property
    def again(self) -> float:
        """Monotonic time at which :meth:`next` is to be asked again though no job ended; infinite where none waits."""
        return self._jobs.again

    def next(self) -> Job | None:
        """The next job that may start now."""
        while job := self._jobs.next():
            answer = self._admit(job)
            if isinstance(answer, Job):
                return answer
            if isinstance(answer, str):
                self.ended(job, Ending(answer, "by another run"), 0.0)
                continue
            self._jobs.later(job)
            if job.key not in self._delayed:
                self._delayed.add(job.key)
                self._on_event(Event("waiting", job.key, reason=answer.reason))
        return None

    def tell(self, event: Event) -> None:
        """Pass an event on; a start once, though a job whose worker died starts again elsewhere."""
        if event.kind != "started" or event.key not in self._started:
            self._on_event(event)
        if event.kind == "started":
            self._started.add(event.key)

    def ended(self, job: Job, ending: Ending, seconds: float) -> None:
        """A job has ended, however."""
        self._jobs.done(job)
        status, reason = ending.status, ending.reason
        if not ending.told:
            self._lost(job, status, reason)
        self._on_event(Event("ended", job.key, status=status, reason=reason, seconds=seconds))
