"""F2, F5, F14 to F18: whatever a job does to its process, or somebody to a job, costs that job and is told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.execute.seen import gone
from tests.reliability.harness import fault, folder_of, instead
from vbench.execute import local, running
from vbench.execute.child import Ending, Setting
from vbench.execute.jobs import Event, Job, Limits, Runner
from vbench.execute.local import LocalExecutor
from vbench.execute.trials import TARGET, marks


class Told:
    """Runs jobs and keeps what was told of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.lost: dict[str, tuple[str, str]] = {}

    def run(self, workers: int = 2, on_event=lambda event: None, **payloads: tuple[Any, ...]) -> Told:
        limits = Limits(TARGET, self.folder / "logs", **payloads.pop("limits", {}))

        def tell(event: Event) -> None:
            self.events.append(event)
            on_event(event)

        def lose(job: Job, status: str, reason: str) -> None:
            assert job.key not in self.lost, "lost twice"
            self.lost[job.key] = status, reason

        jobs = [Job(key, (key, self.folder, *payload)) for key, payload in payloads.items()]
        LocalExecutor(limits, workers).run(jobs, tell, lose)
        return self

    def ends(self) -> dict[str, str]:
        ends = [event for event in self.events if event.kind == "ended"]
        assert len({event.key for event in ends}) == len(ends), "ended twice"
        return {event.key: event.status for event in ends}


GOOD = ("says", "done")


def _success(code: int, real=running._autopsy) -> Ending:
    return Ending("done") if code <= 0 else real(code)


def _quietly(self: Runner, job: Job, ending: Ending, seconds: float) -> None:
    self._jobs.done(job)


@fault(
    "F2",
    {
        "a death passes for an end": instead("vbench.execute.running._autopsy", _success),
        "nobody is told": instead("vbench.execute.jobs.Runner.ended", _quietly),
    },
    kills=100,
)
def killed_jobs(folder: Path, kills: int = 3) -> None:
    """Of jobs that are killed at any moment each is told as killed, once; the others do not notice."""
    told, names = Told(folder), [f"hit{i}" for i in range(kills)]

    def kill() -> None:
        done: set[int] = set()
        deadline = time.monotonic() + 900
        while len(done) < kills and time.monotonic() < deadline:
            for mark in marks(folder):
                if mark.what == "began" and mark.key in names and mark.pid not in done:
                    time.sleep(0.01 * (mark.pid % 7))
                    os.kill(mark.pid, signal.SIGKILL)
                    done.add(mark.pid)
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    told.run(**dict.fromkeys(names, ("stays", 20)), **{f"good{i}": GOOD for i in range(3)})
    thread.join()
    assert told.ends() == dict.fromkeys(names, "crashed") | {f"good{i}": "done" for i in range(3)}
    assert {key for key, (_, reason) in told.lost.items() if "SIGKILL" in reason} == set(names)


@contextlib.contextmanager
def _heeding() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _all_at_once(self: Any, real=local._Supervisor._fill) -> bool:
    """Begin what is left when it is to stop."""
    stopped, self.stopped = self.stopped, 0
    going_on = real(self)
    self.stopped = stopped
    return going_on


@fault(
    "F5",
    {
        "it goes on": instead("vbench.execute.local._Supervisor._interrupt", lambda self, number, frame: None),
        "jobs are left alone": instead("vbench.execute.running.Running.stop", lambda self, *why: None),
        "the rest begins": instead("vbench.execute.local._Supervisor._fill", _all_at_once),
    },
)
def interrupted(folder: Path) -> None:
    """Ctrl-C ends what runs and begins nothing more."""

    def stop(event: Event) -> None:
        if event.kind == "progress":
            os.kill(os.getpid(), signal.SIGINT)

    told = Told(folder)
    with _heeding(), pytest.raises(KeyboardInterrupt):
        told.run(1, stop, one=("stays", 3), next=GOOD)
    assert told.lost == {"one": ("interrupted", "stopped by SIGINT")}
    assert told.ends() == {"one": "interrupted"}
    assert [mark.key for mark in marks(folder)] == ["one"]


@fault(
    "F5",
    {
        "a second one waits": instead(
            "vbench.execute.local._Supervisor._interrupt",
            lambda self, number, frame, real=local._Supervisor._interrupt: self.stopped or real(self, number, frame),
        )
    },
)
def interrupted_twice(folder: Path) -> None:
    """A second Ctrl-C does not wait for what ignores the first."""

    def stop(event: Event) -> None:
        if event.kind == "started":
            threading.Thread(target=twice).start()

    def twice() -> None:
        while not marks(folder):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    began: list[float] = []
    with _heeding(), pytest.raises(KeyboardInterrupt):
        Told(folder).run(1, stop, one=("hangs", 20))
    assert time.monotonic() - began[0] < running.GRACE - 0.5
    assert gone(marks(folder)[0].pid)


@fault(
    "F14",
    {
        "it passes for done": instead("vbench.execute.running.Running._verdict", lambda self: Ending("done")),
        "nothing is kept of what it said": instead("vbench.execute.logs.CappedLog.write", lambda self, data: None),
        "without a reason": instead("vbench.execute.running.Ending", lambda status, *rest, **more: Ending(status, "")),
    },
)
def raising(folder: Path) -> None:
    """The reason is one line, the log holds the traceback, and the next is none the worse."""
    told = Told(folder).run(1, raises=("raises",), good=GOOD)
    assert told.ends() == {"raises": "failed", "good": "done"}
    assert told.lost == {"raises": ("failed", "ValueError: boom")}
    text = (folder / "logs" / "raises.log").read_text()
    assert "before the failure" in text
    assert "Traceback" in text


def _for_ever(*arguments: Any, real=local.launch) -> Any:
    return real(*arguments[:-1], None)


@fault(
    "F15",
    {
        "it is asked, not killed": instead("vbench.execute.running.Running.kill", lambda self: time.sleep(0.2)),
        "there is no limit": instead("vbench.execute.local.launch", _for_ever),
        "only who is asked counts": instead(
            "vbench.execute.running.Running.stop",
            lambda self, status, reason, real=running.Running.stop: real(self, "interrupted", reason),
        ),
    },
    hangs=50,
)
def hanging(folder: Path, hangs: int = 1) -> None:
    """What ignores every request and holds the interpreter lock is gone soon after its limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "GRACE", 0.3)
        names = [f"hangs{i}" for i in range(hangs)]
        told = Told(folder).run(limits={"timeout": 1.0}, **dict.fromkeys(names, ("hangs", 4)))
    assert told.lost == dict.fromkeys(names, ("timeout", "took longer than 1 s"))
    assert max(event.seconds for event in told.events) < 3.0
    assert all(gone(mark.pid) for mark in marks(folder))


@fault(
    "F16",
    {
        "an exit code of 0 is success": instead(
            "vbench.execute.running._autopsy",
            lambda code, real=running._autopsy: Ending("done") if code == 0 else real(code),
        ),
        "a signal is none": instead("vbench.execute.running._autopsy", _success),
        "nobody is told": instead("vbench.execute.jobs.Runner.ended", _quietly),
    },
)
def leaving(folder: Path) -> None:
    """A process that leaves by whatever way before its target returns is one lost job."""
    bad = {"segfaults": "SIGSEGV", "exits": "sys.exit(0)", "leaves": "exit code 0", "is_killed": "SIGKILL"}
    told = Told(folder).run(**{name: (name,) for name in bad}, first=GOOD, last=GOOD)
    assert told.ends() == dict.fromkeys(bad, "crashed") | {"first": "done", "last": "done"}
    assert {name for name, (_, reason) in told.lost.items() if bad[name] in reason} == set(bad)


def _itself_alone(self: running.Running[Any]) -> None:
    self.deadline = float("inf")
    self.process.kill()


@fault(
    "F17",
    {
        "only the process itself is ended": instead("vbench.execute.running.Running.kill", _itself_alone),
        "memory has no limit": instead(
            "vbench.execute.local.Setting",
            lambda *arguments: replace(Setting(*arguments), memory=None),
        ),
    },
)
def taking(folder: Path) -> None:
    """Memory beyond the limit is ``oom``; what a job has started goes with it."""
    size = 4 * 2**30
    told = Told(folder).run(limits={"memory": size}, takes=("takes", size), parent=("leaves_a_child", "says", "done"))
    assert told.ends() == {"takes": "oom", "parent": "done"}
    (left,) = (mark.pid for mark in marks(folder) if mark.what == "left")
    found = gone(left, within=3)
    if not found:
        os.kill(left, signal.SIGKILL)
    assert found


@fault(
    "F18",
    {
        "a process is used again": instead(
            "vbench.execute.local.Setting",
            lambda *arguments: replace(Setting(*arguments), target="tests.execute.wrong:used_again"),
        ),
        "the environment is": instead(
            "vbench.execute.local.Setting",
            lambda *arguments: replace(Setting(*arguments), environment={**arguments[1], "VBENCH_TRIAL": "left"}),
        ),
    },
)
def spoiling(folder: Path) -> None:
    """A job finds what it would find if none had been before it: random numbers, precision, folder, environment."""
    states = []
    for name, first in (("alone", {}), ("after", {"spoils": ("spoils",)})):
        told = Told(folder_of(folder, name)).run(1, **first, looks=("looks",))
        assert set(told.ends().values()) == {"done"}
        states.append(json.loads((told.folder / "looks.json").read_text()))
    assert states[0] == states[1]
    assert states[0][1:4] == ["torch.float32", True, 1]
    assert states[0][5] is None
