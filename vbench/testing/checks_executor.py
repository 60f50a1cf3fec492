"""An executor: whatever happens to jobs, workers and driver, each job ends once, and is told as it ended."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vbench.execute.jobs import ExecutorError
from vbench.execute.trials import marks
from vbench.testing.executor_runs import (
    AFTER,
    LOST,
    TOLD,
    Driven,
    Seen,
    driven,
    endings,
    gone,
    killed_worker,
    studies,
)
from vbench.testing.subject import Subject
from vbench.testing.verdict import Check, Outcome, Verdict

__all__ = ["executor_checks"]


def executor_checks(judged: Subject) -> Iterator[Check]:
    """The named checks of an executor; those that look at the same run share it."""
    suites: list[tuple[Callable[[Subject, Path], Any], dict[str, Callable[[Any], Outcome]]]] = [
        (
            endings,
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
        (killed_worker, {"killed-worker": _worker}),
        (driven, {"ctrl-c": _stops, "killed-driver": _dies}),
        (studies, {"serial-equal": _equal}),
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


def _ends(seen: Seen) -> Outcome:
    ends = Counter(event.key for event in seen.events if event.kind == "ended")
    lost = Counter(key for key, _, _ in seen.lost)
    wrong = [f"{key} ended {ends[key]} times" for key in {*TOLD, *LOST} if ends[key] != 1]
    wrong += [f"{key} was lost {lost[key]} times" for key in {*TOLD, *LOST} if lost[key] != (key in LOST)]
    return _verdict(not wrong, "; ".join(sorted(wrong)) or f"{ends.total()} jobs, {lost.total()} of them lost")


def _statuses(seen: Seen) -> Outcome:
    wanted = {key: status for key, (_, status) in (TOLD | LOST).items()}
    told = {event.key: event.status for event in seen.events if event.kind == "ended"}
    wrong = [f"{key} is told as {told[key]}, not {wanted[key]}" for key in told if told[key] != wanted.get(key)]
    wrong += [f"{key} is lost as {status}" for key, status, _ in seen.lost if status != told.get(key)]
    return _verdict(not wrong, "; ".join(wrong) or f"{len(told)} jobs as they ended")


def _once(seen: Seen) -> Outcome:
    counts = Counter(mark.key for mark in marks(seen.folder) if mark.what == "began")
    starts = Counter(event.key for event in seen.events if event.kind == "started")
    wanted = dict.fromkeys({*TOLD, *LOST}, 1) | {"elsewhere": 0}
    wrong = [f"{key} ran {counts[key]} times" for key in wanted if counts[key] != wanted[key]]
    wrong += [f"the start of {key} is told {starts[key]} times" for key in wanted if starts[key] != wanted[key]]
    return _verdict(not wrong, "; ".join(sorted(wrong)) or f"{counts.total()} jobs, {starts.total()} starts")


def _order(seen: Seen) -> Outcome:
    wrong = []
    told = [(event.kind, event.key) for event in seen.events if event.kind != "progress"]
    for key, before in AFTER.items():
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


def _admission(seen: Seen) -> Outcome:
    waits = len(seen.of("waiting", "waits"))
    wrong = [] if waits == 1 else [f"that a job waits is told {waits} times"]
    if [event.status for event in seen.of("ended", "changed")] != ["done"]:
        wrong.append("not the job that was admitted was run")
    if seen.began("elsewhere"):
        wrong.append("a job that had ended elsewhere was run")
    return _verdict(not wrong, "; ".join(wrong) or "as admitted: one waited, one changed, one ended elsewhere")


def _timeout(seen: Seen) -> Outcome:
    began = seen.began("hangs")
    ends = seen.of("ended", "hangs")
    if not began or not ends:
        return Outcome(Verdict.FAIL, "the job that hangs did not run to its end")
    figure = f"limit {seen.limit:g} s, ended as {ends[0].status} after {ends[0].seconds:.1f} s"
    return _verdict(ends[0].status == "timeout" and ends[0].seconds < seen.limit + 15, figure)


def _fresh(seen: Seen) -> Outcome:
    found = [mark.pid for mark in marks(seen.folder) if mark.what == "began"]
    if len(set(found)) < len(found):
        return Outcome(Verdict.FAIL, f"{len(found)} jobs in {len(set(found))} processes")
    path = seen.folder / "looks.json"
    state = json.loads(path.read_text()) if path.exists() else [None] * 7
    good = state[1:4] == ["torch.float32", True, 1] and state[4] != "/" and state[5] is None
    return _verdict(good, f"{len(found)} jobs, a process each; after one that spoils what is global: {state[1:6]}")


def _logs(seen: Seen) -> Outcome:
    path = seen.folder / "logs" / "raises.log"
    text = path.read_text() if path.exists() else ""
    good = "before the failure" in text and "ValueError: boom" in text
    return _verdict(good, "what a job printed, and its traceback" if good else f"{path.name} lacks what it printed")


def _orphans(seen: Seen) -> Outcome:
    pids = {mark.pid for mark in marks(seen.folder)}
    left = gone(pids)
    return _verdict(not left, f"{len(left)} of {len(pids)} processes are still there")


def _worker(observed: tuple[Seen, float]) -> Outcome:
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
    if left := gone({mark.pid for mark in began[:1]}):
        wrong.append(f"its job goes on in process {left}")
    return _verdict(not wrong, "; ".join(wrong) or f"its job ended once, as {own[0]}, after {len(began)} starts")


def _left(seen: Driven) -> list[str]:
    begun = len(marks(seen.folder))
    if begun < 3:
        return [f"{begun} of 3 processes were started"]
    return [f"{len(seen.left)} of {begun} processes are still there"] if seen.left else []


def _stops(both: tuple[Driven, Driven]) -> Outcome:
    seen, _ = both
    told = Counter((words[0], words[1]) for words in seen.told if len(words) > 1)
    wrong = [] if ["interrupted"] in seen.told else [f"it did not stop within {seen.seconds:.0f} s"]
    wrong += [f"{key} ended {told['ended', key]} times" for key in ("one", "two") if told["ended", key] != 1]
    wrong += ["a job was started afterwards"] if any("next" in words for words in seen.told) else []
    wrong += [f"{words[1]} is told as done" for words in seen.told if words[0] == "ended" and words[2] == "done"]
    wrong += _left(seen)
    return _verdict(not wrong, "; ".join(wrong) or f"stopped in {seen.seconds:.1f} s, its 3 processes are gone")


def _dies(both: tuple[Driven, Driven]) -> Outcome:
    wrong = _left(both[1])
    return _verdict(not wrong, "; ".join(wrong) or "its 3 processes are gone, one of which held the interpreter lock")


def _equal(found: tuple[dict[Any, Any], dict[Any, Any]]) -> Outcome:
    there, here = found
    wrong = sum(there.get(key) != here.get(key) for key in {*there, *here})
    return _verdict(bool(here) and not wrong, f"{wrong} of {len(here)} numbers of a study differ")
