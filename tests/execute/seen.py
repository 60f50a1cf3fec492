"""What the tests of the executor look at."""

import contextlib
import time

import psutil

from vbench.execute.jobs import Job, Limits
from vbench.execute.local import LocalExecutor


class Seen:
    """Runs jobs and keeps what the executor said of them."""

    def __init__(self, folder):
        self.folder = folder
        self.events = []
        self.lost = []

    def run(self, jobs, workers=2, gpu=0.0, **options):
        jobs = [job if isinstance(job, Job) else Job(f"job{i}", job) for i, job in enumerate(jobs)]
        executor = LocalExecutor(Limits("targets:call", self.folder / "logs", **options), workers, gpu)
        executor.run(jobs, self.events.append, lambda job, *why: self.lost.append((job.key, *why)))
        return self

    def ends(self):
        return {event.key: event.status for event in self.events if event.kind == "ended"}

    def kinds(self, key):
        return [event.kind for event in self.events if event.key == key]

    def log(self, key="job0"):
        return (self.folder / "logs" / f"{key}.log").read_bytes()

    def marks(self):
        path = self.folder / "marks"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def gone(pid, within=60.0):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False
