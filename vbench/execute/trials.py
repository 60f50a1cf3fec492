"""What jobs can do to an executor, and a driver that is stopped while they do it: what ``vbench check`` tries one with.

Every job notes that it began, in which processes, and that it went on to its end: ``marks`` in its folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pkgutil
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vbench.execute import server
from vbench.execute.jobs import Event, Job, Limits

__all__ = ["TARGET", "Mark", "call", "drive", "marks"]

TARGET = "vbench.execute.trials:call"
Report = Callable[[int, int], None]


class Mark(NamedTuple):
    """A job was here: ``what`` is began, ended or left (a process behind)."""

    what: str
    key: str
    pid: int
    at: float
    host: int


def marks(folder: Path) -> list[Mark]:
    """What jobs have noted so far, oldest first."""
    path = folder / "marks"
    return [Mark(*json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def _mark(folder: Path, what: str, key: str, pid: int = 0) -> None:
    # one clock for all processes of a machine, and a line at once: no two mix
    mark = Mark(what, key, pid or os.getpid(), time.monotonic(), _host() if what == "began" else 0)
    with (folder / "marks").open("ab", buffering=0) as file:
        file.write(json.dumps(mark).encode() + b"\n")


def _host() -> int:
    """The process that supervises this one, whatever it was forked from."""
    import psutil

    parent = psutil.Process(os.getppid())
    return parent.ppid() if "multiprocessing.forkserver" in " ".join(parent.cmdline()) else parent.pid


def call(payload: tuple[Any, ...], report: Report) -> str:
    """The target: ``(key, folder, name, *arguments)``."""
    key, folder, name, *arguments = payload
    _mark(folder, "began", key)
    status: str = globals()[f"_{name}"](report, folder, key, *arguments)
    _mark(folder, "ended", key)
    return status


def _says(report: Report, folder: Path, key: str, status: str) -> str:
    return status


def _goes_on(report: Report, folder: Path, key: str) -> str:
    for step in range(4):
        report(step, 3)
    return "done"


def _raises(report: Report, folder: Path, key: str) -> str:
    print("before the failure")
    raise ValueError("boom")


def _exits(report: Report, folder: Path, key: str) -> str:
    sys.exit(0)


def _leaves(report: Report, folder: Path, key: str) -> str:
    os._exit(0)


def _segfaults(report: Report, folder: Path, key: str) -> str:
    ctypes.string_at(0)
    return "done"


def _is_killed(report: Report, folder: Path, key: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def _hangs(report: Report, folder: Path, key: str, seconds: int) -> str:
    """Ignore every request to end, and hold the interpreter lock."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(seconds)
    return "done"


def _stays(report: Report, folder: Path, key: str, seconds: int) -> str:
    report(1, 2)
    time.sleep(seconds)
    return "done"


def _stays_once(report: Report, folder: Path, key: str, seconds: int) -> str:
    """The first time, wait for what kills the worker."""
    if [mark.key for mark in marks(folder)].count(key) == 1:
        time.sleep(seconds)
    return "done"


def _takes(report: Report, folder: Path, key: str, size: int) -> str:
    import torch

    torch.empty(size, dtype=torch.uint8)
    return "done"


def _leaves_a_child(report: Report, folder: Path, key: str, then: str, *arguments: Any) -> str:
    """Start a process that ignores the request to end and holds the output open."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    left = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)  # noqa: S603
    assert left.stdout  # noqa: S101
    left.stdout.readline()
    _mark(folder, "left", key, left.pid)
    status: str = globals()[f"_{then}"](report, folder, key, *arguments)
    return status


def _spoils(report: Report, folder: Path, key: str) -> str:
    """Change whatever is global."""
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    random.seed(1)
    os.chdir("/")
    os.environ["VBENCH_TRIAL"] = "spoiled"
    return "done"


def _looks(report: Report, folder: Path, key: str) -> str:
    """Note what a job finds."""
    import torch

    found = (torch.rand(1).item(), str(torch.get_default_dtype()), torch.is_grad_enabled(), torch.get_num_threads())
    state = (*found, str(Path.cwd()), os.environ.get("VBENCH_TRIAL"), os.environ.get("CUDA_VISIBLE_DEVICES"))
    (folder / f"{key}.json").write_text(json.dumps(state))
    return "done"


def drive(name: str, options: str, folder: str, seconds: str) -> None:
    """The life of a driver: two jobs stay until it is interrupted, then two hang until it is killed.

    What it hears is told on standard output, each line a list.

    Args:
        name: ``package.module:factory`` of the executor.
        options: its parameters, JSON.
        folder: of two folders of marks and logs, ``stays`` and ``hangs``.
        seconds: that the jobs take if nobody ends them.
    """
    server.PRELOAD = ("torch",)  # enough here, and quick
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background begins without it
    factory = pkgutil.resolve_name(name)

    def say(*words: Any) -> None:
        print(json.dumps(words), flush=True)

    def tell(event: Event) -> None:
        say(event.kind, event.key, event.status)

    def lose(job: Job, status: str, reason: str) -> None:
        say("lost", job.key, status)

    for trial in ("stays", "hangs"):
        here = Path(folder) / trial
        here.mkdir()
        stay = (trial, int(seconds))
        jobs = [
            Job("one", ("one", here, *stay)),
            Job("two", ("two", here, "leaves_a_child", *stay)),
            Job("next", ("next", here, "says", "done"), ("one", "two")),
        ]
        executor = factory(limits=Limits(TARGET, here / "logs"), workers=2, **json.loads(options))
        try:
            executor.run(jobs, tell, lose)
        except KeyboardInterrupt:
            say("interrupted")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        drive(*sys.argv[1:])
