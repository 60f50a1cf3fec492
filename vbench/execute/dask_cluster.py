"""Jobs on the workers of a Dask cluster, each under the same supervisor as on one machine.

A worker's task runs its job in a fresh process with the same limits, and tells the driver how it ended; results go from
the job to the store, never through Dask's memory. Dask runs a task again when its worker dies, so a job runs at least
once; that its result counts once is the store's doing. Dask has no authentication unless TLS is set up: a scheduler
runs whatever it is sent, and belongs on a trusted network (docs/cluster.md).
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import queue
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vbench.execute.child import Ending, one_line
from vbench.execute.jobs import Admit, Event, Job, JobQueue, Lost, OnEvent, Runner
from vbench.execute.local import Executor

__all__ = ["ClusterError", "DaskExecutor"]

_LOOK = 5.0  # seconds after which workers that have come since are seen
_DAEMON = "DASK_DISTRIBUTED__WORKER__DAEMON=False"


class ClusterError(RuntimeError):
    """The cluster cannot run these jobs; the message is one line that says what to do."""


@dataclass(frozen=True)
class _Limits:
    """What a worker needs to know beside the job; plain data."""

    target: str
    threads: int
    timeout: float | None
    memory: int | None
    log_folder: str
    topic: str


class DaskExecutor:
    """Runs jobs on Dask workers, one at a time on each.

    Args:
        target, threads, timeout, memory, log_folder: as of :class:`vbench.execute.local.Executor`.
        workers: of the cluster that is started here, where no scheduler is named.
        scheduler: address of a running one, ``tcp://host:8786`` or ``tls://host:8786``.
        resources: what a job takes of its worker's resources, ``{"GPU": 1}``; each worker gives its jobs its own
            ``CUDA_VISIBLE_DEVICES``.
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
        scheduler: str = "",
        resources: dict[str, float] | None = None,
    ) -> None:
        self._limits = _Limits(target, threads, timeout, memory, str(log_folder.resolve()), f"vbench-{uuid.uuid4()}")
        self.workers = max(1, workers)
        self.scheduler = scheduler
        self.resources = resources or {}

    def warm(self) -> None:
        """Nothing: each worker loads its libraries with its first job."""

    def run(self, jobs: Sequence[Job], on_event: OnEvent, lost: Lost, admit: Admit = lambda job: job) -> None:
        """Run all jobs; returns when the last has ended. As :meth:`vbench.execute.local.Executor.run`.

        Raises:
            ClusterError: no scheduler there, no worker, or workers that cannot serve.
            KeyboardInterrupt: Ctrl-C; the workers' jobs were ended.
        """
        if not jobs:
            return
        with self._client() as client:
            self._check(client)
            _Driver(client, self._limits, self.resources, JobQueue(jobs), on_event, lost, admit).run()

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        dask, distributed = _library()
        # a worker's jobs are processes of its own, which daemons may not have
        with dask.config.set({"distributed.worker.daemon": False}):
            if not self.scheduler:
                with (
                    distributed.LocalCluster(
                        n_workers=self.workers,
                        threads_per_worker=1,
                        host="127.0.0.1",
                        dashboard_address=None,
                        memory_limit=0,
                    ) as cluster,
                    distributed.Client(cluster) as client,
                ):
                    yield client
                return
            try:
                client = distributed.Client(self.scheduler, timeout=20)
            except (OSError, ValueError, TimeoutError) as error:
                raise ClusterError(f"--scheduler {self.scheduler}: {str(error).splitlines()[0]}") from None
            with client:
                yield client

    def _check(self, client: Any) -> None:
        """That every worker can serve, and sees the folder that results go to."""
        _, distributed = _library()
        try:
            client.wait_for_workers(1, timeout=60)
        except (TimeoutError, distributed.TimeoutError):
            raise ClusterError(f"--scheduler {self.scheduler}: it has no worker (start one: dask worker ...)") from None
        folder = Path(self._limits.log_folder)
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / self._limits.topic
        token.touch()
        try:
            for address, complaint in client.run(_complaint, str(token), _code()).items():
                if complaint:
                    raise ClusterError(f"worker {address} {complaint}")
        finally:
            token.unlink()


class _Driver(Runner):
    """Sends jobs out, as many as the cluster runs at once, and tells what the workers tell."""

    def __init__(
        self,
        client: Any,
        limits: _Limits,
        resources: dict[str, float],
        jobs: JobQueue,
        on_event: OnEvent,
        lost: Lost,
        admit: Admit,
    ) -> None:
        super().__init__(jobs, on_event, lost, admit)
        self._client, self._limits, self._resources = client, limits, resources
        self._happenings: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sent: dict[Any, Job] = {}
        self._started: set[str] = set()

    def run(self) -> None:
        self._client.subscribe_topic(self._limits.topic, self._happenings.put)
        try:
            while self._fill():
                self._turn()
        except BaseException:
            self._stop()
            raise
        finally:
            self._client.unsubscribe_topic(self._limits.topic)

    def _fill(self) -> bool:
        # no more than can run: what is sent is claimed, and other runs on the same folder do it instead
        room = max(1, sum(self._client.nthreads().values()))
        while len(self._sent) < room and (job := self._next()):
            future = self._client.submit(
                _work, self._limits, job, key=f"{self._limits.topic}-{job.key}", pure=False, resources=self._resources
            )
            self._sent[future] = job
            future.add_done_callback(self._happenings.put)
        return bool(self._sent) or self._jobs.again < math.inf

    def _turn(self) -> None:
        left = min(self._jobs.again - time.monotonic(), _LOOK)
        with contextlib.suppress(queue.Empty):
            happening = self._happenings.get(timeout=max(0.0, left))
            if isinstance(happening, tuple):
                self._tell(Event(**happening[1]["event"]))
            else:
                self._end(happening)

    def _tell(self, event: Event) -> None:
        """Once: a job whose worker died starts again elsewhere."""
        if event.kind != "started" or event.key not in self._started:
            self._on_event(event)
        self._started.add(event.key)

    def _end(self, future: Any) -> None:
        job = self._sent.pop(future)
        ending, seconds = _ending(future)
        self._tell(Event("started", job.key))
        self._ended(job, ending, seconds)

    def _stop(self) -> None:
        """End what the workers run: only their own end stops a task."""
        with contextlib.suppress(Exception):
            busy = {str(key): who for who, keys in self._client.processing().items() for key in keys}
            mine = sorted({busy[future.key] for future in self._sent if future.key in busy})
            self._client.cancel(list(self._sent), force=True)
            if mine:
                self._client.restart_workers(mine, timeout=20, raise_for_error=False)
        for job in self._sent.values():
            self._ended(job, Ending("interrupted", "stopped with its driver", told=False), 0.0)


def _ending(future: Any) -> tuple[Ending, float]:
    """How a task's job ended, and in how many seconds."""
    if future.status == "finished":
        found: tuple[Ending, float] = future.result()
        return found
    if future.status == "cancelled":
        return Ending("interrupted", "the scheduler went away", told=False), 0.0
    _, distributed = _library()
    error = future.exception()
    if isinstance(error, distributed.KilledWorker):
        return Ending("crashed", "the worker that ran it died, again and again", told=False), 0.0
    return Ending("failed", one_line(error), told=False), 0.0


def _work(limits: _Limits, job: Job) -> tuple[Ending, float]:
    """A task: one job through a supervisor of this worker's own."""
    _, distributed = _library()
    worker = distributed.get_worker()
    found: list[tuple[Ending, float]] = []
    lost: list[str] = []

    def tell(event: Event) -> None:
        if event.kind == "ended":
            found.append((Ending(event.status, event.reason, told=not lost), event.seconds))
        else:
            worker.log_event(limits.topic, {"event": asdict(event)})

    executor = Executor(
        limits.target,
        workers=1,
        threads=limits.threads,
        timeout=limits.timeout,
        memory=limits.memory,
        log_folder=Path(limits.log_folder),
    )
    executor.run([Job(job.key, job.payload)], tell, lambda *why: lost.append(why[1]))
    return found[0]


def _complaint(token: str, code: str) -> str:
    """Why this worker cannot serve; empty: it can."""
    if multiprocessing.current_process().daemon:
        return f"may not start processes: start it with {_DAEMON}"
    if not Path(token).exists():
        return f"does not see {Path(token).parent}: all machines need the results folder under the same path"
    if _code() != code:
        return "has another version of vbench than this machine"
    return ""


def _code() -> str:
    from vbench.provenance import code_digest

    return code_digest()


def _library() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError:
        raise ClusterError("dask is not installed: pip install 'vbench[dask]'") from None
    return dask, distributed
