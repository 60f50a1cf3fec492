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
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from vbench.execute.child import Ending, one_line
from vbench.execute.devices import devices_here
from vbench.execute.jobs import Admit, Event, ExecutorError, Job, Limits, Lost, OnEvent, Runner, admitted
from vbench.execute.local import run_job

__all__ = ["DaskExecutor"]

_LAST_WORDS = 10.0  # seconds for jobs that are taken back: half of one until they are asked to end, and the grace
_LOOK = 5.0  # seconds after which workers that have come since are seen
_GPU = "GPU"  # the resource that a worker offers: dask worker --resources GPU=2
_DAEMON = "DASK_DISTRIBUTED__WORKER__DAEMON=False"


class DaskExecutor:
    """Workers of a Dask cluster, one cell at a time on each of their threads.

    Args:
        limits: what the jobs are held to.
        workers: of the cluster that is started here, where no scheduler is named.
        scheduler: address of a running one.
        gpu: share of a GPU that each job takes of its worker's resource ``GPU``.

    Source: Rocklin (2015), Dask: Parallel Computation with Blocked algorithms and Task Scheduling,
    doi:10.25080/Majora-7b98e3ed-013.
    """

    def __init__(
        self,
        limits: Limits,
        workers: int,
        scheduler: Annotated[str, "address of a running one, tcp://host:8786 or tls://host:8786"] = "",
        gpu: Annotated[float, Ge(0), "share of a GPU that each cell takes: 0.5, 1, 2"] = 0.0,
    ) -> None:
        self._limits = limits
        self._workers = max(1, workers)
        self._scheduler = scheduler
        self._gpu = gpu
        self.at_once = math.inf if scheduler else float(self._workers)

    def warm(self) -> None:
        """Nothing: each worker loads its libraries with its first job."""

    def run(self, jobs: Sequence[Job], on_event: OnEvent, lost: Lost, admit: Admit = admitted) -> None:
        """Run all jobs (see :meth:`vbench.execute.Executor.run`)."""
        topic = f"vbench-{uuid.uuid4()}"
        driver = _Driver(self._limits, topic, self._gpu, jobs, on_event, lost, admit)
        if not jobs:
            return
        with self._client() as client:
            self._check(client, topic)
            driver.run(client)

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        dask, distributed = _library()
        # a worker's jobs are processes of its own, which daemons may not have
        with dask.config.set({"distributed.worker.daemon": False}):
            if not self._scheduler:
                # devices are shared out within one worker, so there it is one with many threads
                threads = self._workers if self._gpu else 1
                with (
                    distributed.LocalCluster(
                        n_workers=self._workers // threads,
                        threads_per_worker=threads,
                        host="127.0.0.1",
                        dashboard_address=None,
                        memory_limit=0,
                        resources={_GPU: len(devices_here().names)},
                    ) as cluster,
                    distributed.Client(cluster) as client,
                ):
                    yield client
                return
            try:
                client = distributed.Client(self._scheduler, timeout=20)
            except (OSError, ValueError, TimeoutError) as error:
                raise ExecutorError(f"{str(error).splitlines()[0]}") from None
            with client:
                yield client

    def _check(self, client: Any, topic: str) -> None:
        """That every worker can serve, and sees the folder that results go to."""
        _, distributed = _library()
        try:
            client.wait_for_workers(1, timeout=60)
        except (TimeoutError, distributed.TimeoutError):
            raise ExecutorError("it has no worker (start one: dask worker ...)") from None
        if self._gpu and not _room(client, self._gpu):
            raise ExecutorError(f"gpu={self._gpu:g}: no worker offers so much (dask worker --resources {_GPU}=1 ...)")
        folder = Path(self._limits.log_folder)
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / topic
        token.touch()
        try:
            for address, complaint in client.run(_complaint, str(token), _code()).items():
                if complaint:
                    raise ExecutorError(f"worker {address} {complaint}")
        finally:
            token.unlink()


class _Driver(Runner):
    """Sends jobs out, as many as the cluster runs at once, and tells what the workers tell."""

    def __init__(
        self,
        limits: Limits,
        topic: str,
        gpu: float,
        jobs: Sequence[Job],
        on_event: OnEvent,
        lost: Lost,
        admit: Admit,
    ) -> None:
        super().__init__(jobs, on_event, lost, admit)
        self._limits, self._topic, self._gpu = limits, topic, gpu
        self._happenings: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sent: dict[Any, Job] = {}

    def run(self, client: Any) -> None:
        client.subscribe_topic(self._topic, self._happenings.put)
        try:
            while self._fill(client):
                self._turn()
        except BaseException:
            self._stop(client)
            raise
        finally:
            client.unsubscribe_topic(self._topic)

    def _fill(self, client: Any) -> bool:
        # no more than can run: what is sent is claimed, and other runs on the same folder do it instead
        room = max(1, _room(client, self._gpu))
        while len(self._sent) < room and (job := self.next()):
            future = client.submit(
                _work,
                self._limits,
                self._topic,
                self._gpu,
                job,
                key=_task(self._topic, job),
                pure=False,
                resources={_GPU: self._gpu} if self._gpu else {},
            )
            self._sent[future] = job
            future.add_done_callback(self._happenings.put)
        return bool(self._sent) or self.again < math.inf

    def _turn(self) -> None:
        left = min(self.again - time.monotonic(), _LOOK)
        with contextlib.suppress(queue.Empty):
            happening = self._happenings.get(timeout=max(0.0, left))
            if isinstance(happening, tuple):
                if "event" in happening[1]:
                    self.tell(Event(**happening[1]["event"]))
            else:
                self._end(happening)

    def _end(self, future: Any) -> None:
        job = self._sent.pop(future)
        ending, seconds = _ending(future)
        self.tell(Event("started", job.key))
        self.ended(job, ending, seconds)

    def _stop(self, client: Any) -> None:
        """Take back what the workers run, and hear how it ended."""
        with contextlib.suppress(Exception):
            client.cancel(list(self._sent), force=True)
        waiting = {job.key for job in self._sent.values()} & self._started
        over: dict[str, Ending] = {}
        deadline = time.monotonic() + _LAST_WORDS
        while waiting - over.keys() and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                happening = self._happenings.get(timeout=left)
                if isinstance(happening, tuple) and "over" in happening[1]:
                    over[happening[1]["over"]] = Ending(**happening[1]["ending"])
        stopped = Ending("interrupted", "stopped with its driver", told=False)
        for job in self._sent.values():
            self.ended(job, over.get(job.key, stopped), 0.0)


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


def _task(topic: str, job: Job) -> str:
    """What Dask calls it."""
    return f"{topic}-{job.key}"


def _room(client: Any, gpu: float) -> int:
    """How many jobs the cluster runs at once, as it is now."""
    if not gpu:
        return sum(client.nthreads().values())
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(min(worker["nthreads"], int(worker["resources"].get(_GPU, 0) / gpu + 1e-6)) for worker in workers)


def _work(limits: Limits, topic: str, gpu: float, job: Job) -> tuple[Ending, float]:
    """A task: one job through a supervisor of this worker's own."""
    _, distributed = _library()
    worker = distributed.get_worker()

    key = _task(topic, job)

    def tell(event: Event) -> None:
        worker.log_event(topic, {"event": asdict(event)})

    def wanted() -> bool:
        # a task is taken back when its driver stops or dies, and nothing but we can end it
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    devices = devices_here()
    try:
        taken = devices.take(gpu)
    except LookupError as error:
        return Ending("failed", f"this worker offers more than it sees: {error}", told=False), 0.0
    ending = Ending("interrupted", "its worker was stopped", told=False)
    try:
        ending, seconds = run_job(limits, job, tell, taken, wanted)
        return ending, seconds
    finally:
        devices.give(taken, gpu)
        worker.log_event(topic, {"over": job.key, "ending": asdict(ending)})


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
        raise ExecutorError("dask is not installed: pip install 'vbench[dask]'") from None
    return dask, distributed
