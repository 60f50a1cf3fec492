"""What runs in a job's own process, around the target: its limits, its log, and the word on how it ended."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn, TextIO

__all__ = ["PRELOADED", "Ending", "Report", "Setting", "attempt", "main", "one_line"]

Report = Callable[[int, int], None]
PRELOADED = "torch._dynamo"  # what every first optimiser imports, for two seconds
_PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class Setting:
    """What a job's process is given beside its payload: the driver's environment as it is now, and limits."""

    target: str
    environment: Mapping[str, str]
    threads: int
    memory: int | None
    forked: bool
    log: str


@dataclass(frozen=True)
class Ending:
    """How a job ended; ``told`` when the target said so itself and so has kept its own results."""

    status: str
    reason: str = ""
    told: bool = True


def attempt(target: str, payload: bytes, report: Report) -> Ending:
    """Call ``package.module:function`` with the pickled payload; exceptions go to the log."""
    try:
        module, _, name = target.partition(":")
        function = getattr(importlib.import_module(module), name)
        status = function(pickle.loads(payload), report)  # noqa: S301
        if not isinstance(status, str):
            raise TypeError(f"{target} returned {type(status).__name__}, not a status")
        return Ending(status)
    except SystemExit as error:
        return Ending("crashed", f"it called sys.exit({error.code!r})", told=False)
    except Exception as error:
        with contextlib.suppress(Exception):  # memory may be lacking still
            traceback.print_exc()
        return Ending("oom" if _out_of_memory(error) else "failed", one_line(error), told=False)


def one_line(error: BaseException) -> str:
    """Type and first line of an exception, short enough for a table."""
    text = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
    return text if len(text) <= 300 else text[:299] + "…"


def main(setting: Setting, payload: bytes, status: Connection, life: Connection, output: Connection | None) -> NoReturn:
    """The whole life of a job's process."""
    _leave_group()
    _end_with_driver(life)
    _redirect(setting.log, output)
    os.environ.clear()
    os.environ.update(setting.environment)
    if setting.forked and PRELOADED not in sys.modules:
        print(f"vbench: {PRELOADED} was not preloaded: this job starts some seconds late", file=sys.stderr)
    if setting.memory is not None:
        import resource

        # on Linux what is written counts, not address space, of which drivers of devices reserve terabytes
        kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
        resource.setrlimit(kind, (setting.memory, setting.memory))
    import torch

    torch.set_num_threads(setting.threads)
    ending = attempt(setting.target, payload, _reporter(status))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    _send(status, "ended", ending.status, ending.reason, ending.told)
    os._exit(0)  # threads and exit handlers that a plugin left behind have no say


def _leave_group() -> None:
    """Lead a process group, so that one signal reaches all that the job starts; Ctrl-C is the driver's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def _end_with_driver(life: Connection) -> None:
    """Kill this process group as soon as the driver's end of ``life`` is closed, which its death does too."""

    def watch() -> None:
        wait([life])
        if sys.platform != "win32":
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="vbench-orphan-guard").start()
    if sys.platform == "linux":
        # The kernel does the same when a plugin holds the interpreter lock and no thread can run.
        import fcntl

        fcntl.fcntl(life.fileno(), fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(life.fileno(), fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life.fileno(), fcntl.F_SETFL, os.O_ASYNC)


def _redirect(log: str, output: Connection | None) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if output is None else output.fileno()
    for number in (1, 2):
        os.dup2(handle, number)
    sys.stdout, sys.stderr = _stream(1), _stream(2)
    faulthandler.enable(sys.stderr)


def _stream(number: int) -> TextIO:
    return open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _reporter(status: Connection) -> Report:
    last = -float("inf")

    def report(step: int, steps: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PROGRESS_SECONDS or step >= steps:
            last = now
            _send(status, "progress", int(step), int(steps))

    return report


def _send(status: Connection, *message: Any) -> None:
    # Short enough to be written whole or not at all: a killed process leaves no half message.
    with contextlib.suppress(OSError):
        status.send_bytes(json.dumps(message).encode())


def _out_of_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
