"""Jobs on this machine, each in a fresh process: what one does, or how it dies, never reaches another."""

from __future__ import annotations

import contextlib
import functools
import math
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from types import FrameType
from typing import Annotated, Any

from annotated_types import Ge

from vbench.execute import child, server
from vbench.execute.child import Ending, Setting
from vbench.execute.devices import devices_here
from vbench.execute.jobs import Admit, Event, ExecutorError, Job, Limits, Lost, OnEvent, Runner, admitted
from vbench.execute.running import Running, launch

__all__ = ["LocalExecutor", "run_job"]


class LocalExecutor:
    """Processes of this machine, a fresh one for each cell.

    Args:
        limits: what the jobs are held to.
        workers: jobs at once; 0 runs them in this process, without limits, for a debugger.
        gpu: share of a GPU that each job takes.
    """

    def __init__(
        self,
        limits: Limits,
        workers: int,
        gpu: Annotated[float, Ge(0), "share of a GPU that each cell takes: 0.5, 1, 2"] = 0.0,
    ) -> None:
        self._limits = limits
        self._gpu = gpu
        self._workers = min(workers, devices_here().room(gpu)) if gpu else workers
        if workers and not self._workers:
            raise ExecutorError(f"gpu={gpu:g}: {len(devices_here().names)} GPUs are visible here")
        self.at_once: float = max(1, self._workers)

    def warm(self) -> None:
        """Begin to load the libraries now, so that the first job need not wait for them."""
        if self._workers:
            server.warm()

    def run(self, jobs: Sequence[Job], on_event: OnEvent, lost: Lost, admit: Admit = admitted) -> None:
        """Run all jobs (see :meth:`vbench.execute.Executor.run`).

        A second Ctrl-C kills and raises at once. SIGTERM is treated the same, then delivered.
        """
        if not self._workers:
            _Inline(self._limits, jobs, on_event, lost, admit).run()
            return
        supervisor = _Supervisor(
            self._limits, jobs, on_event, lost, admit, workers=self._workers, gpu=self._gpu, environment={}
        )
        self.warm()
        supervisor.supervise()


def run_job(
    limits: Limits,
    job: Job,
    tell: OnEvent = lambda event: None,
    environment: Mapping[str, str] | None = None,
    wanted: Callable[[], bool] | None = None,
) -> tuple[Ending, float]:
    """Run one job under a supervisor of this process: what the worker of an engine does.

    Args:
        limits: what the job is held to.
        job: one that was admitted.
        tell: called when it has started and as it goes on.
        environment: of the job, beside this process's own.
        wanted: asked every half second; once it says no, the job is ended.

    Returns:
        How it ended, and in how many seconds.
    """
    found: list[tuple[Ending, float]] = []
    gone: list[str] = []

    def hear(event: Event) -> None:
        if event.kind == "ended":
            found.append((Ending(event.status, event.reason, told=not gone), event.seconds))
        else:
            tell(event)

    alone = [Job(job.key, job.payload)]

    def lose(job: Job, status: str, reason: str) -> None:
        gone.append(status)

    _Supervisor(
        limits, alone, hear, lose, admitted, workers=1, gpu=0.0, environment=environment or {}, wanted=wanted
    ).supervise()
    return found[0]


class _Runner(Runner):
    """What running jobs here or in processes has in common."""

    def __init__(self, limits: Limits, jobs: Sequence[Job], on_event: OnEvent, lost: Lost, admit: Admit) -> None:
        super().__init__(jobs, on_event, lost, admit)
        self._limits = limits

    def _pack(self, job: Job) -> bytes | None:
        """The payload as it travels, or None: a job that cannot travel has failed."""
        try:
            return pickle.dumps(job.payload)
        except Exception as error:
            reason = f"its payload cannot be sent: {child.one_line(error)}"
            self.tell(Event("started", job.key))
            self.ended(job, Ending("failed", reason, told=False), 0.0)
            return None


class _Inline(_Runner):
    """Runs the jobs in this process, where a debugger can follow them."""

    def run(self) -> None:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(self._limits.threads)
        try:
            while (job := self.next()) or self.again < math.inf:
                if job:
                    self._run(job)
                else:
                    time.sleep(max(0.0, self.again - time.monotonic()))
        finally:
            torch.set_num_threads(threads)

    def _run(self, job: Job) -> None:
        def report(step: int, steps: int) -> None:
            self.tell(Event("progress", job.key, step, steps))

        payload = self._pack(job)
        if payload is None:
            return
        started = time.monotonic()
        self.tell(Event("started", job.key))
        ending = Ending("interrupted", "stopped by SIGINT", told=False)
        try:
            ending = child.attempt(self._limits.target, payload, report)
        finally:
            self.ended(job, ending, time.monotonic() - started)


class _Supervisor(_Runner):
    """Starts jobs, waits for whatever happens next, and sees every one of them to its end."""

    def __init__(
        self,
        limits: Limits,
        jobs: Sequence[Job],
        on_event: OnEvent,
        lost: Lost,
        admit: Admit,
        *,
        workers: int,
        gpu: float,
        environment: Mapping[str, str],
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(limits, jobs, on_event, lost, admit)
        self._wanted = wanted
        self.stopped = 0
        self._workers, self._gpu, self._environment = workers, gpu, environment
        self._waiting = False
        self._running: list[Running[Job]] = []
        self._taken: dict[str, Mapping[str, str]] = {}
        self._woken, self._wake = server.pipe()

    def supervise(self) -> None:
        """Run all jobs; a signal that stopped them is delivered at the end."""
        try:
            with self.signals():
                self._run()
        finally:
            if self.stopped:
                signal.raise_signal(self.stopped)
                raise KeyboardInterrupt

    def _run(self) -> None:
        try:
            while self._fill():
                self._turn()
        finally:
            for running in self._running:
                running.kill()
            for running in self._running:
                running.bury()
                self._give(running.job)
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
        while len(self._running) < self._workers and not self.stopped:
            job = self.next()
            if job is None:
                break
            payload = self._pack(job)
            if payload is not None:
                self._launch(job, payload)
        return bool(self._running) or (self.again < math.inf and not self.stopped)

    def _launch(self, job: Job, payload: bytes) -> None:
        limits = self._limits
        log = limits.log_folder / f"{job.key}.log"
        taken = self._taken[job.key] = devices_here().take(self._gpu)
        environment = {**server.environment(limits.threads), **self._environment, **taken}
        setting = Setting(limits.target, environment, limits.threads, limits.memory, server.forks(), str(log))
        # The first start waits for the server to load its libraries, and then there is nothing to end gently.
        self._waiting = not self._running
        try:
            running = launch(job, setting, payload, log, limits.timeout)
        except BaseException:
            self._give(job)
            raise
        self._waiting = False
        self._running.append(running)
        self.tell(Event("started", job.key))

    def _give(self, job: Job) -> None:
        devices_here().give(self._taken.pop(job.key), self._gpu)

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
        room = len(self._running) < self._workers and not self.stopped
        left = min(soonest, self.again if room else math.inf) - time.monotonic()
        longest = 3600.0 if self._wanted is None else 0.5
        for happening in wait(list(happenings), max(0.0, min(left, longest))):
            happenings[happening]()
        unwanted = self._wanted is not None and not self._wanted()
        for running in self._running:
            if unwanted:
                running.stop("interrupted", "nobody waits for it any more")
            if self.stopped:
                running.stop("interrupted", f"stopped by {signal.Signals(self.stopped).name}")
            if time.monotonic() < running.deadline:
                continue
            if running.ending or running.stopped:
                running.kill()
            else:
                running.stop("timeout", f"took longer than {self._limits.timeout:g} s")

    def _hear(self, running: Running[Job]) -> None:
        for step, steps in running.hear():
            self.tell(Event("progress", running.job.key, step, steps))

    def _end(self, running: Running[Job]) -> None:
        self._hear(running)
        self._running.remove(running)
        seconds = time.monotonic() - running.started
        ending = running.bury()
        self._give(running.job)
        self.ended(running.job, ending, seconds)
