"""Jobs on this machine, each in a fresh process: what one does, or how it dies, never reaches another."""

from __future__ import annotations

import contextlib
import functools
import math
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any

from vbench.execute import child, server
from vbench.execute.child import Ending, Setting
from vbench.execute.jobs import Admit, Event, Job, JobQueue, Lost, OnEvent, Runner
from vbench.execute.running import Running, launch

__all__ = ["Executor"]


class Executor:
    """Runs jobs, as many at once as there are workers.

    Args:
        target: ``package.module:function``, called with the payload and ``report(step, steps)``; it keeps its
            own results and returns its status.
        workers: processes at once; 0 runs the jobs in this process, without limits, for a debugger.
        threads: torch threads of each.
        timeout: seconds that a job may take.
        memory: bytes of data that each process of a job may take.
        log_folder: what a job prints goes to ``<key>.log`` here.
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
    ) -> None:
        self.target = target
        self.workers = workers
        self.threads = threads
        self.timeout = timeout
        self.memory = memory
        self.log_folder = log_folder

    def warm(self) -> None:
        """Begin to load the libraries now, so that the first job need not wait for them."""
        if self.workers:
            server.warm()

    def run(self, jobs: Sequence[Job], on_event: OnEvent, lost: Lost, admit: Admit = lambda job: job) -> None:
        """Run all jobs; returns when the last has ended.

        Args:
            jobs: started in this order, as far as ``after`` allows.
            on_event: called for each event, in this thread.
            lost: called with ``(job, status, reason)``, once, for a job whose target did not return a status:
                ``failed``, ``crashed``, ``timeout``, ``oom`` or ``interrupted``.
            admit: called with a job that is about to start; returns the job to start, a ``Wait`` to be asked again,
                or the status of a job that has ended elsewhere.

        Raises:
            KeyboardInterrupt: Ctrl-C; running jobs were ended and reported as lost, the others not touched. A
                second Ctrl-C kills and raises at once. SIGTERM is treated the same, then delivered.
            ValueError: two jobs with one key, or jobs that wait for each other.
        """
        queue = JobQueue(jobs)
        if not self.workers:
            _Inline(self, queue, on_event, lost, admit).run()
            return
        self.warm()
        supervisor = _Supervisor(self, queue, on_event, lost, admit)
        try:
            with supervisor.signals():
                supervisor.run()
        finally:
            if supervisor.stopped:
                signal.raise_signal(supervisor.stopped)
                raise KeyboardInterrupt


class _Runner(Runner):
    """What running jobs here or in processes has in common."""

    def __init__(self, executor: Executor, queue: JobQueue, on_event: OnEvent, lost: Lost, admit: Admit) -> None:
        super().__init__(queue, on_event, lost, admit)
        self._executor = executor

    def _pack(self, job: Job) -> bytes | None:
        """The payload as it travels, or None: a job that cannot travel has failed."""
        try:
            return pickle.dumps(job.payload)
        except Exception as error:
            reason = f"its payload cannot be sent: {child.one_line(error)}"
            self._on_event(Event("started", job.key))
            self._ended(job, Ending("failed", reason, told=False), 0.0)
            return None


class _Inline(_Runner):
    """Runs the jobs in this process, where a debugger can follow them."""

    def run(self) -> None:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(self._executor.threads)
        try:
            while (job := self._next()) or self._jobs.again < math.inf:
                if job:
                    self._run(job)
                else:
                    time.sleep(max(0.0, self._jobs.again - time.monotonic()))
        finally:
            torch.set_num_threads(threads)

    def _run(self, job: Job) -> None:
        def report(step: int, steps: int) -> None:
            self._on_event(Event("progress", job.key, step, steps))

        payload = self._pack(job)
        if payload is None:
            return
        started = time.monotonic()
        self._on_event(Event("started", job.key))
        ending = Ending("interrupted", "stopped by SIGINT", told=False)
        try:
            ending = child.attempt(self._executor.target, payload, report)
        finally:
            self._ended(job, ending, time.monotonic() - started)


class _Supervisor(_Runner):
    """Starts jobs, waits for whatever happens next, and sees every one of them to its end."""

    def __init__(self, executor: Executor, queue: JobQueue, on_event: OnEvent, lost: Lost, admit: Admit) -> None:
        super().__init__(executor, queue, on_event, lost, admit)
        self.stopped = 0
        self._waiting = False
        self._running: list[Running[Job]] = []
        self._woken, self._wake = server.pipe()

    def run(self) -> None:
        try:
            while self._fill():
                self._turn()
        finally:
            for running in self._running:
                running.kill()
            for running in self._running:
                running.bury()
            self._woken.close()
            self._wake.close()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM stop the jobs between two events, not in the middle of a callback."""
        before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, self._interrupt)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        again, self.stopped = self.stopped, number
        if again or self._waiting:
            raise KeyboardInterrupt
        with contextlib.suppress(OSError):  # closed: the last job has just ended
            self._wake.send_bytes(b"")

    def _fill(self) -> bool:
        while len(self._running) < self._executor.workers and not self.stopped:
            job = self._next()
            if job is None:
                break
            payload = self._pack(job)
            if payload is not None:
                self._launch(job, payload)
        return bool(self._running) or (self._jobs.again < math.inf and not self.stopped)

    def _launch(self, job: Job, payload: bytes) -> None:
        ex = self._executor
        log = ex.log_folder / f"{job.key}.log"
        environment = server.environment(ex.threads)
        setting = Setting(ex.target, environment, ex.threads, ex.memory, server.forks(), str(log))
        # The first start waits for the server to load its libraries, and then there is nothing to end gently.
        self._waiting = not self._running
        running = launch(job, setting, payload, log, ex.timeout)
        self._waiting = False
        self._running.append(running)
        self._on_event(Event("started", job.key))

    def _turn(self) -> None:
        """Wait for the next thing to happen and see to it."""
        happenings: dict[Any, Callable[[], object]] = {self._woken: self._woken.recv_bytes}
        for running in self._running:
            happenings[running.process.sentinel] = functools.partial(self._end, running)
            if running.status:
                happenings[running.status] = functools.partial(self._hear, running)
            if running.output:
                happenings[running.output] = running.drain
        soonest = min((running.deadline for running in self._running), default=math.inf)
        room = len(self._running) < self._executor.workers and not self.stopped
        left = min(soonest, self._jobs.again if room else math.inf) - time.monotonic()
        for happening in wait(list(happenings), max(0.0, min(left, 3600.0))):
            happenings[happening]()
        for running in self._running:
            if self.stopped:
                running.stop("interrupted", f"stopped by {signal.Signals(self.stopped).name}")
            if time.monotonic() < running.deadline:
                continue
            if running.ending or running.stopped:
                running.kill()
            else:
                running.stop("timeout", f"took longer than {self._executor.timeout:g} s")

    def _hear(self, running: Running[Job]) -> None:
        for step, steps in running.hear():
            self._on_event(Event("progress", running.job.key, step, steps))

    def _end(self, running: Running[Job]) -> None:
        self._hear(running)
        self._running.remove(running)
        seconds = time.monotonic() - running.started
        self._ended(running.job, running.bury(), seconds)
