"""Executors that are wrong on purpose, each in one way; importable by name, as the drivers of the suite need them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from vbench.execute import trials
from vbench.execute.jobs import Job, admitted
from vbench.execute.local import LocalExecutor

HERE = "tests.execute.wrong"


class Loses(LocalExecutor):
    """Says nothing of how one job ended."""

    def run(self, jobs, on_event, lost, admit=admitted):
        super().run(jobs, lambda e: (e.kind, e.key) == ("ended", "good") or on_event(e), lost, admit)


class RunsTwice(LocalExecutor):
    """Gives one job to two workers."""

    def run(self, jobs, on_event, lost, admit=admitted):
        other = LocalExecutor(self._limits, 1)
        again = [Job(job.key, job.payload) for job in jobs if job.key == "goes-on"]
        thread = threading.Thread(target=other.run, args=(again, lambda event: None, lambda *why: None))
        thread.start()
        super().run(jobs, on_event, lost, admit)
        thread.join()


class SwallowsDeaths(LocalExecutor):
    """Takes a process that died for one that had nothing to say."""

    def run(self, jobs, on_event, lost, admit=admitted):
        dead = set()

        def lose(job, status, reason):
            if status == "crashed":
                dead.add(job.key)
            else:
                lost(job, status, reason)

        def tell(event):
            on_event(replace(event, status="done") if event.kind == "ended" and event.key in dead else event)

        super().run(jobs, tell, lose, admit)


class LeavesOrphans(LocalExecutor):
    """Ends the process that it started, and not what that has started."""

    def run(self, jobs, on_event, lost, admit=admitted):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "killpg", lambda *_: None)
            super().run(jobs, on_event, lost, admit)


class HasNoLimit(LocalExecutor):
    def __init__(self, limits, workers):
        super().__init__(replace(limits, timeout=None), workers)


class IgnoresOrder(LocalExecutor):
    def run(self, jobs, on_event, lost, admit=admitted):
        super().run([replace(job, after=()) for job in jobs], on_event, lost, admit)


class DoesNotAsk(LocalExecutor):
    def run(self, jobs, on_event, lost, admit=admitted):
        super().run(jobs, on_event, lost)


class LogsElsewhere(LocalExecutor):
    def __init__(self, limits, workers):
        super().__init__(replace(limits, log_folder=limits.log_folder / "elsewhere"), workers)


class IsDeaf(LocalExecutor):
    """Goes on whatever the terminal says."""

    def run(self, jobs, on_event, lost, admit=admitted):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        super().run(jobs, on_event, lost, admit)


def with_target(name):
    class Aimed(LocalExecutor):
        def __init__(self, limits, workers):
            super().__init__(replace(limits, target=f"{HERE}:{name}"), workers)

    Aimed.__qualname__ = name.title().replace("_", "")
    return Aimed


def used_again(payload, report):
    """A job in a process that another had before."""
    if payload[0] == "looks":
        trials._spoils(report, *payload[1:3][::-1])
    return trials.call(payload, report)


def detached(payload, report):
    """A job that nothing ties to its driver."""
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    trials._mark(Path(payload[1]), "left", payload[0], left.pid)
    return trials.call(payload, report)


def in_another_precision(payload, report):
    import torch

    from vbench.runner import attempt

    torch.set_default_dtype(torch.float64)
    return attempt(payload, report)


UsedAgain = with_target("used_again")
Detached = with_target("detached")
InAnotherPrecision = with_target("in_another_precision")
