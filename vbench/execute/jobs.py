"""What jobs are, in which order they start, and what is told of them: the same wherever they run."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Literal

from vbench.execute.child import Ending

__all__ = ["Admit", "Event", "Job", "JobQueue", "Lost", "OnEvent", "Runner", "Wait"]


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
    """What all ways of running jobs have in common: which starts when, and telling the caller."""

    def __init__(self, jobs: JobQueue, on_event: OnEvent, lost: Lost, admit: Admit) -> None:
        self._jobs = jobs
        self._on_event = on_event
        self._lost = lost
        self._admit = admit
        self._delayed: set[str] = set()

    def _next(self) -> Job | None:
        """The next job that may start now."""
        while job := self._jobs.next():
            answer = self._admit(job)
            if isinstance(answer, Job):
                return answer
            if isinstance(answer, str):
                self._ended(job, Ending(answer, "by another run"), 0.0)
                continue
            self._jobs.later(job)
            if job.key not in self._delayed:
                self._delayed.add(job.key)
                self._on_event(Event("waiting", job.key, reason=answer.reason))
        return None

    def _ended(self, job: Job, ending: Ending, seconds: float) -> None:
        self._jobs.done(job)
        status, reason = ending.status, ending.reason
        if not ending.told:
            self._lost(job, status, reason)
        self._on_event(Event("ended", job.key, status=status, reason=reason, seconds=seconds))
