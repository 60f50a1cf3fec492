"""What an executor is put through, and what was seen of it: runs that the checks of executors ask questions of."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from vbench.execute.jobs import Event, Job, Limits, Wait
from vbench.execute.trials import TARGET, Mark, marks
from vbench.testing.subject import Subject

__all__ = [
    "AFTER",
    "LOST",
    "TOLD",
    "Driven",
    "Seen",
    "driven",
    "endings",
    "gone",
    "killed_worker",
    "studies",
]

_TIMEOUT = 4.0
_MEMORY = 4 * 2**30
_PATIENCE = 25.0  # for what must go away
_STAY = 40  # seconds after which jobs end themselves that nobody ended

# what a job does, and how it ends; those that say nothing themselves are lost
TOLD = {
    "good": (("says", "done"), "done"),
    "diverged": (("says", "diverged"), "diverged"),
    "goes-on": (("goes_on",), "done"),
    "parent": (("leaves_a_child", "goes_on"), "done"),
    "spoils": (("spoils",), "done"),
    "waits": (("says", "done"), "done"),
    "changed": (("says", "failed"), "done"),
    "elsewhere": (("says", "done"), "diverged"),
    "later": (("says", "done"), "done"),
    "looks": (("looks",), "done"),
}
LOST = {
    "raises": (("raises",), "failed"),
    "exits": (("exits",), "crashed"),
    "leaves": (("leaves",), "crashed"),
    "segfaults": (("segfaults",), "crashed"),
    "is-killed": (("is_killed",), "crashed"),
    "hangs": (("leaves_a_child", "hangs"), "timeout"),
    "takes": (("takes", _MEMORY), "oom"),
}
AFTER = {"later": ("hangs",), "looks": ("spoils",)}


@dataclass
class Seen:
    """What a run told, and what its jobs noted; ``limit`` is theirs, in seconds."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    lost: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: float = 0.0
    limit: float = 0.0

    def of(self, kind: str, key: str) -> list[Event]:
        """What was told of a job, of one kind."""
        return [event for event in self.events if (event.kind, event.key) == (kind, key)]

    def began(self, key: str) -> list[Mark]:
        """Each time that it began."""
        return [mark for mark in marks(self.folder) if (mark.what, mark.key) == ("began", key)]

    def lose(self, job: Job, status: str, reason: str) -> None:
        """What the executor says of a job that said nothing itself."""
        self.lost.append((job.key, status, reason))


def gone(pids: set[int]) -> set[int]:
    """Wait for processes to be gone; returns those that are not."""
    deadline = time.monotonic() + _PATIENCE
    left = set(pids)
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if _alive(pid)}
        time.sleep(0.05 if left else 0.0)
    for pid in left:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()
    return left


def _alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


# --- every way in which a job can end, two at once


def endings(judged: Subject, folder: Path) -> Seen:
    """Two workers, and jobs that end in every way."""
    seen, asked = Seen(folder, limit=_TIMEOUT), Counter[str]()

    def admit(job: Job) -> Job | Wait | str:
        asked[job.key] += 1
        if job.key == "waits" and asked[job.key] < 3:
            return Wait("somebody has")
        if job.key == "changed":
            return replace(job, payload=("changed", folder, "says", "done"))
        return "diverged" if job.key == "elsewhere" else job

    limits = Limits(TARGET, folder / "logs", timeout=seen.limit, memory=_MEMORY)
    payloads = {key: payload for key, (payload, _) in (TOLD | LOST).items()}
    payloads["hangs"] = "leaves_a_child", "hangs", _STAY
    jobs = [Job(key, (key, folder, *payload), AFTER.get(key, ())) for key, payload in payloads.items()]
    executor = judged.build({"limits": limits, "workers": 2})
    executor.warm()
    began = time.monotonic()
    executor.run(jobs, seen.events.append, seen.lose, admit)
    seen.seconds = time.monotonic() - began
    return seen


# --- a worker that dies


def killed_worker(judged: Subject, folder: Path) -> tuple[Seen, float]:
    """Kill what supervises a job; where that is the driver, the job itself."""
    seen, killed = Seen(folder), [0.0]

    def kill() -> None:
        _until(lambda: bool(seen.began("hit")), 300)
        if began := seen.began("hit"):
            killed[0] = time.monotonic()
            os.kill(began[0].pid if began[0].host == os.getpid() else began[0].host, signal.SIGKILL)

    jobs = [Job("hit", ("hit", folder, "stays_once", _STAY))]
    jobs += [Job(f"other{i}", (f"other{i}", folder, "says", "done")) for i in range(3)]
    thread = threading.Thread(target=kill)
    thread.start()
    executor = judged.build({"limits": Limits(TARGET, folder / "logs"), "workers": 2})
    try:
        executor.run(jobs, seen.events.append, seen.lose)
    finally:
        thread.join()
    return seen, killed[0]


# --- a driver that is stopped or dies


@dataclass
class Driven:
    """What a driver told until it stopped, in how many seconds, and what its jobs noted; the same of its death."""

    folder: Path
    told: list[list[str]]
    seconds: float
    left: set[int]


def driven(judged: Subject, folder: Path) -> tuple[Driven, Driven]:
    """Interrupt a driver while two of its jobs stay, then kill it while two hang."""
    command = [sys.executable, "-m", "vbench.execute.trials", judged.component.module]
    command += [json.dumps(dict(judged.parameters)), str(folder), str(_STAY)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    lines: list[str] = []
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
    ) as process:
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
        reader.start()
        begun = _until(lambda: len(marks(folder / "stays")) >= 3 or process.poll() is not None, 300)
        # as a terminal does it: to all that the driver shares it with
        os.killpg(process.pid, signal.SIGINT)
        _until(lambda: '["interrupted"]\n' in lines or process.poll() is not None, _PATIENCE)
        seconds, stopped = time.monotonic() - begun, list(lines)
        left = gone({mark.pid for mark in marks(folder / "stays")})
        _until(lambda: len(marks(folder / "hangs")) >= 3 or '["interrupted"]\n' not in stopped, 300)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reader.join(_PATIENCE)
    told = [json.loads(line) for line in stopped if line.startswith("[")]
    after = gone({mark.pid for mark in marks(folder / "hangs")})
    return Driven(folder / "stays", told, seconds, left), Driven(folder / "hangs", [], 0.0, after)


def _until(true: Callable[[], bool], seconds: float) -> float:
    """Wait; returns when it was over."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)  # for what is on its way
    return time.monotonic()


# --- results

_GRID: dict[str, Any] = {
    "name": "trial",
    "datasets": ["bernoulli-bars"],
    "encoders": [{"gaussian": {"latent": 3, "hidden": [8]}}],
    "decoders": [{"bernoulli": {"hidden": [8]}}],
    "priors": ["standard-normal"],
    "estimators": ["reparam", {"rloo": {"k": 2}}],
    "train": {"steps": 20, "batch": 16},
    "measure": {"data": 60, "samples": 4, "gradients": {"draws": 8, "batches": 2, "at": "shared", "warmup": 5}},
}
_TIMED = ("seconds_per_step", "examples_per_second", "work_normalized_variance", "peak_memory")


def studies(judged: Subject, folder: Path) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Every number of one study, by this executor and in this process."""
    import vbench

    found = []
    for name, executor in (("there", functools.partial(judged.factory, **judged.parameters)), ("here", "local")):
        vbench.run(_GRID, results=folder / name, executor=executor, workers=2 if name == "there" else 0)
        frame = vbench.load(folder / name / "trial")
        frame = frame[~frame["metric"].isin(_TIMED)].set_index(["cell", "metric", "split", "part", "step"])
        found.append({key: value for key, value in frame["value"].items() if value == value})
    return found[0], found[1]
