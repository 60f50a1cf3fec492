"""An executor: whatever happens to jobs, workers and driver, each job ends once, and is told as it ended."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from vbench.execute.jobs import Event, ExecutorError, Job, Limits, Wait
from vbench.execute.trials import TARGET, Mark, marks
from vbench.testing.subject import Subject
from vbench.testing.verdict import Check, Outcome, Verdict

__all__ = ["executor_checks"]

_TIMEOUT = 4.0
_MEMORY = 4 * 2**30
_PATIENCE = 25.0  # for what must go away
_STAY = 40  # seconds after which jobs end themselves that nobody ended

# what a job does, and how it ends; those that say nothing themselves are lost
_TOLD = {
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
_LOST = {
    "raises": (("raises",), "failed"),
    "exits": (("exits",), "crashed"),
    "leaves": (("leaves",), "crashed"),
    "segfaults": (("segfaults",), "crashed"),
    "is-killed": (("is_killed",), "crashed"),
    "hangs": (("leaves_a_child", "hangs"), "timeout"),
    "takes": (("takes", _MEMORY), "oom"),
}
_AFTER = {"later": ("hangs",), "looks": ("spoils",)}


@dataclass
class _Seen:
    """What a run told, and what its jobs noted."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    lost: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, kind: str, key: str) -> list[Event]:
        return [event for event in self.events if (event.kind, event.key) == (kind, key)]

    def began(self, key: str) -> list[Mark]:
        return [mark for mark in marks(self.folder) if (mark.what, mark.key) == ("began", key)]

    def lose(self, job: Job, status: str, reason: str) -> None:
        self.lost.append((job.key, status, reason))


def executor_checks(judged: Subject) -> Iterator[Check]:
    """The named checks of an executor; those that look at the same run share it."""
    suites: list[tuple[Callable[[Subject, Path], Any], dict[str, Callable[[Any], Outcome]]]] = [
        (
            _endings,
            {
                "ends-once": _ends,
                "statuses": _statuses,
                "runs-once": _once,
                "order": _order,
                "admission": _admission,
                "timeout": _timeout,
                "fresh-processes": _fresh,
                "logs": _logs,
                "no-orphans": _orphans,
            },
        ),
        (_killed_worker, {"killed-worker": _worker}),
        (_driven, {"ctrl-c": _stops, "killed-driver": _dies}),
        (_studies, {"serial-equal": _equal}),
    ]
    for run, questions in suites:
        observed = _once_for_all(judged, run)
        for name, question in questions.items():
            yield Check(name, functools.partial(_ask, observed, question))


def _once_for_all(judged: Subject, run: Callable[[Subject, Path], Any]) -> Callable[[], Any]:
    """What a run in a folder of its own showed, or raised, for every check that looks at it."""

    @functools.cache
    def observed() -> tuple[Any, Exception | None]:
        folder = Path(tempfile.mkdtemp(prefix="vbench-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        try:
            return run(judged, folder), None
        except Exception as error:
            return None, error

    def answer() -> Any:
        found, error = observed()
        if error:
            raise error
        return found

    return answer


def _ask(observed: Callable[[], Any], question: Callable[[Any], Outcome]) -> Outcome:
    if sys.platform == "win32":
        return Outcome(Verdict.INCONCLUSIVE, "signals and groups of processes are not those of Windows")
    try:
        seen = observed()
    except ExecutorError as error:
        return Outcome(Verdict.INCONCLUSIVE, str(error))
    return question(seen)


def _verdict(good: bool, figure: str) -> Outcome:
    return Outcome(Verdict.PASS if good else Verdict.FAIL, figure)


def _gone(pids: set[int]) -> set[int]:
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


def _endings(judged: Subject, folder: Path) -> _Seen:
    seen, asked = _Seen(folder), Counter[str]()

    def admit(job: Job) -> Job | Wait | str:
        asked[job.key] += 1
        if job.key == "waits" and asked[job.key] < 3:
            return Wait("somebody has")
        if job.key == "changed":
            return replace(job, payload=("changed", folder, "says", "done"))
        return "diverged" if job.key == "elsewhere" else job

    limits = Limits(TARGET, folder / "logs", timeout=_TIMEOUT, memory=_MEMORY)
    payloads = {key: payload for key, (payload, _) in (_TOLD | _LOST).items()}
    payloads["hangs"] = "leaves_a_child", "hangs", _STAY
    jobs = [Job(key, (key, folder, *payload), _AFTER.get(key, ())) for key, payload in payloads.items()]
    executor = judged.build({"limits": limits, "workers": 2})
    executor.warm()
    began = time.monotonic()
    executor.run(jobs, seen.events.append, seen.lose, admit)
    seen.seconds = time.monotonic() - began
    return seen


def _ends(seen: _Seen) -> Outcome:
    ends = Counter(event.key for event in seen.events if event.kind == "ended")
    lost = Counter(key for key, _, _ in seen.lost)
    wrong = [f"{key} ended {ends[key]} times" for key in {*_TOLD, *_LOST} if ends[key] != 1]
    wrong += [f"{key} was lost {lost[key]} times" for key in {*_TOLD, *_LOST} if lost[key] != (key in _LOST)]
    return _verdict(not wrong, "; ".join(sorted(wrong)) or f"{ends.total()} jobs, {lost.total()} of them lost")


def _statuses(seen: _Seen) -> Outcome:
    wanted = {key: status for key, (_, status) in (_TOLD | _LOST).items()}
    told = {event.key: event.status for event in seen.events if event.kind == "ended"}
    wrong = [f"{key} is told as {told[key]}, not {wanted[key]}" for key in told if told[key] != wanted.get(key)]
    wrong += [f"{key} is lost as {status}" for key, status, _ in seen.lost if status != told.get(key)]
    return _verdict(not wrong, "; ".join(wrong) or f"{len(told)} jobs as they ended")


def _once(seen: _Seen) -> Outcome:
    counts = Counter(mark.key for mark in marks(seen.folder) if mark.what == "began")
    starts = Counter(event.key for event in seen.events if event.kind == "started")
    wanted = dict.fromkeys({*_TOLD, *_LOST}, 1) | {"elsewhere": 0}
    wrong = [f"{key} ran {counts[key]} times" for key in wanted if counts[key] != wanted[key]]
    wrong += [f"the start of {key} is told {starts[key]} times" for key in wanted if starts[key] != wanted[key]]
    return _verdict(not wrong, "; ".join(sorted(wrong)) or f"{counts.total()} jobs, {starts.total()} starts")


def _order(seen: _Seen) -> Outcome:
    wrong = []
    told = [(event.kind, event.key) for event in seen.events if event.kind != "progress"]
    for key, before in _AFTER.items():
        if ("started", key) in told and told.index(("started", key)) < told.index(("ended", before[0])):
            wrong.append(f"{key} started before {before[0]} had ended")
    for key in {event.key for event in seen.events}:
        kinds = [event.kind for event in seen.events if event.key == key and event.kind != "waiting"]
        if key != "elsewhere" and (kinds[:1], kinds[-1:]) != (["started"], ["ended"]):
            wrong.append(f"{key} is told as {', '.join(kinds)}")
    steps = [(event.step, event.steps) for event in seen.of("progress", "goes-on")]
    if steps and (steps != sorted(steps) or steps[-1] != (3, 3)):
        wrong.append(f"progress is told as {steps}")
    return _verdict(not wrong, "; ".join(wrong) or f"starts, {len(steps)} reports of progress, ends")


def _admission(seen: _Seen) -> Outcome:
    waits = len(seen.of("waiting", "waits"))
    wrong = [] if waits == 1 else [f"that a job waits is told {waits} times"]
    if [event.status for event in seen.of("ended", "changed")] != ["done"]:
        wrong.append("not the job that was admitted was run")
    if seen.began("elsewhere"):
        wrong.append("a job that had ended elsewhere was run")
    return _verdict(not wrong, "; ".join(wrong) or "as admitted: one waited, one changed, one ended elsewhere")


def _timeout(seen: _Seen) -> Outcome:
    began = seen.began("hangs")
    ends = seen.of("ended", "hangs")
    if not began or not ends:
        return Outcome(Verdict.FAIL, "the job that hangs did not run to its end")
    figure = f"limit {_TIMEOUT:g} s, ended as {ends[0].status} after {ends[0].seconds:.1f} s"
    return _verdict(ends[0].status == "timeout" and ends[0].seconds < _TIMEOUT + 15, figure)


def _fresh(seen: _Seen) -> Outcome:
    found = [mark.pid for mark in marks(seen.folder) if mark.what == "began"]
    if len(set(found)) < len(found):
        return Outcome(Verdict.FAIL, f"{len(found)} jobs in {len(set(found))} processes")
    path = seen.folder / "looks.json"
    state = json.loads(path.read_text()) if path.exists() else [None] * 7
    good = state[1:4] == ["torch.float32", True, 1] and state[4] != "/" and state[5] is None
    return _verdict(good, f"{len(found)} jobs, a process each; after one that spoils what is global: {state[1:6]}")


def _logs(seen: _Seen) -> Outcome:
    path = seen.folder / "logs" / "raises.log"
    text = path.read_text() if path.exists() else ""
    good = "before the failure" in text and "ValueError: boom" in text
    return _verdict(good, "what a job printed, and its traceback" if good else f"{path.name} lacks what it printed")


def _orphans(seen: _Seen) -> Outcome:
    pids = {mark.pid for mark in marks(seen.folder)}
    left = _gone(pids)
    return _verdict(not left, f"{len(left)} of {len(pids)} processes are still there")


# --- a worker that dies


def _killed_worker(judged: Subject, folder: Path) -> tuple[_Seen, float]:
    """Kill what supervises a job; where that is the driver, the job itself."""
    seen, killed = _Seen(folder), [0.0]

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


def _worker(observed: tuple[_Seen, float]) -> Outcome:
    seen, killed = observed
    began = seen.began("hit")
    ends = Counter((event.key, event.status) for event in seen.events if event.kind == "ended")
    others = all(ends[f"other{i}", "done"] == 1 for i in range(3))
    own = [status for key, status in ends if key == "hit"]
    wrong = [] if others else [f"the others ended as {dict(ends)}"]
    if own not in (["done"], ["crashed"]) or ends["hit", own[0]] != 1:
        wrong.append(f"its job ended as {own}")
    elif (own == ["crashed"]) != ("hit" in {key for key, _, _ in seen.lost}):
        wrong.append("a death is not told as one")
    elif own == ["done"] and len(began) < 2:
        wrong.append("its job is told as done, and did not end")
    if any(mark.at < killed for mark in began[1:]):
        wrong.append("its job ran twice at once")
    if left := _gone({mark.pid for mark in began[:1]}):
        wrong.append(f"its job goes on in process {left}")
    return _verdict(not wrong, "; ".join(wrong) or f"its job ended once, as {own[0]}, after {len(began)} starts")


# --- a driver that is stopped or dies


@dataclass
class _Driven:
    """What a driver told until it stopped, in how many seconds, and what its jobs noted; the same of its death."""

    folder: Path
    told: list[list[str]]
    seconds: float
    left: set[int]


def _driven(judged: Subject, folder: Path) -> tuple[_Driven, _Driven]:
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
        left = _gone({mark.pid for mark in marks(folder / "stays")})
        _until(lambda: len(marks(folder / "hangs")) >= 3 or '["interrupted"]\n' not in stopped, 300)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reader.join(_PATIENCE)
    told = [json.loads(line) for line in stopped if line.startswith("[")]
    after = _gone({mark.pid for mark in marks(folder / "hangs")})
    return _Driven(folder / "stays", told, seconds, left), _Driven(folder / "hangs", [], 0.0, after)


def _until(true: Callable[[], bool], seconds: float) -> float:
    """Wait; returns when it was over."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)  # for what is on its way
    return time.monotonic()


def _left(seen: _Driven) -> list[str]:
    begun = len(marks(seen.folder))
    if begun < 3:
        return [f"{begun} of 3 processes were started"]
    return [f"{len(seen.left)} of {begun} processes are still there"] if seen.left else []


def _stops(both: tuple[_Driven, _Driven]) -> Outcome:
    seen, _ = both
    told = Counter((words[0], words[1]) for words in seen.told if len(words) > 1)
    wrong = [] if ["interrupted"] in seen.told else [f"it did not stop within {seen.seconds:.0f} s"]
    wrong += [f"{key} ended {told['ended', key]} times" for key in ("one", "two") if told["ended", key] != 1]
    wrong += ["a job was started afterwards"] if any("next" in words for words in seen.told) else []
    wrong += [f"{words[1]} is told as done" for words in seen.told if words[0] == "ended" and words[2] == "done"]
    wrong += _left(seen)
    return _verdict(not wrong, "; ".join(wrong) or f"stopped in {seen.seconds:.1f} s, its 3 processes are gone")


def _dies(both: tuple[_Driven, _Driven]) -> Outcome:
    wrong = _left(both[1])
    return _verdict(not wrong, "; ".join(wrong) or "its 3 processes are gone, one of which held the interpreter lock")


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


def _studies(judged: Subject, folder: Path) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Every number of one study, by this executor and in this process."""
    import vbench

    found = []
    for name, executor in (("there", functools.partial(judged.factory, **judged.parameters)), ("here", "local")):
        vbench.run(_GRID, results=folder / name, executor=executor, workers=2 if name == "there" else 0)
        frame = vbench.load(folder / name / "trial")
        frame = frame[~frame["metric"].isin(_TIMED)].set_index(["cell", "metric", "split", "part", "step"])
        found.append({key: value for key, value in frame["value"].items() if value == value})
    return found[0], found[1]


def _equal(found: tuple[dict[Any, Any], dict[Any, Any]]) -> Outcome:
    there, here = found
    wrong = sum(there.get(key) != here.get(key) for key in {*there, *here})
    return _verdict(bool(here) and not wrong, f"{wrong} of {len(here)} numbers of a study differ")
