"""This machine's executor beyond what the suite asks (test_conformance.py): reasons, logs, what a job finds."""

import os
import signal
import sys
import threading
import time
from multiprocessing import forkserver

import psutil
import pytest

from tests.execute.seen import gone
from vbench.execute.jobs import Job, Limits
from vbench.execute.local import LocalExecutor
from vbench.execute.logs import CappedLog

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups")


def test_a_status_is_passed_on(seen):
    seen.run([("ok",), ("ok", "diverged"), ("ok", "failed")])
    assert seen.ends() == {"job0": "done", "job1": "diverged", "job2": "failed"}
    assert seen.lost == []
    assert seen.kinds("job1") == ["started", "ended"]
    assert all(event.seconds > 0 for event in seen.events if event.kind == "ended")


ENDINGS = {
    "raises": (("fail", "boom\nmore"), "failed", "ValueError: boom"),
    "is long-winded": (("fail", "x" * 10_000), "failed", "ValueError: " + "x" * 287 + "…"),
    "no status": (("number",), "failed", "TypeError: targets:call returned int, not a status"),
    "MemoryError": (("memory_error",), "oom", "MemoryError"),
    "segmentation fault": (("segfault",), "crashed", "killed by SIGSEGV"),
    "abort": (("kill_self", signal.SIGABRT), "crashed", "killed by SIGABRT"),
    "SIGKILL": (
        ("kill_self", signal.SIGKILL),
        "crashed",
        "killed by SIGKILL, by somebody or by the kernel for want of memory",
    ),
    "os._exit(0)": (("os_exit", 0), "crashed", "left with exit code 0 and no result"),
    "os._exit(7)": (("os_exit", 7), "crashed", "left with exit code 7 and no result"),
    "sys.exit(0)": (("exit_with", 0), "crashed", "it called sys.exit(0)"),
    "sys.exit(3)": (("exit_with", 3), "crashed", "it called sys.exit(3)"),
    "unknown target": (("nothing_here",), "failed", "KeyError: 'nothing_here'"),
    "cannot travel": (("ok", threading.Lock()), "failed", None),
}


def test_every_bad_end_is_one_lost_job(seen):
    jobs = [Job(name.replace(" ", "-"), payload) for name, (payload, _, _) in ENDINGS.items()]
    seen.run([*jobs, Job("good", ("ok",))])
    assert seen.ends().pop("good") == "done"
    for (key, status, reason), expected in zip(sorted(seen.lost), sorted(ENDINGS.items()), strict=True):
        name, (_, wanted, why) = expected
        assert (key, status) == (name.replace(" ", "-"), wanted)
        assert why is None or reason == why
        assert seen.kinds(key) == ["started", "ended"]
    assert b"before the failure" in seen.log("raises")
    assert b"Traceback" in seen.log("raises")
    assert b"Fatal Python error: Segmentation fault" in seen.log("segmentation-fault")


def test_a_memory_limit_costs_one_job(seen):
    seen.run([("hog",), ("ok",)], memory=3 * 2**30)
    assert seen.ends() == {"job0": "oom", "job1": "done"}


def test_progress_is_throttled_and_ends_at_the_last_step(seen):
    seen.run([("progress", 10_000)])
    steps = [(event.step, event.steps) for event in seen.events if event.kind == "progress"]
    assert steps[0] == (0, 10_000)
    assert steps[-1] == (10_000, 10_000)
    assert len(steps) < 50


def test_a_timeout_leaves_time_for_a_last_word(seen):
    assert seen.run([("last_word",)], timeout=2.0).ends() == {"job0": "partial"}
    assert seen.lost == []


def test_grandchildren_of_a_job_that_dies_are_gone(seen):
    seen.run([("parent_of", seen.folder, ("segfault",))])
    assert gone(int(seen.marks()[0][0]))


def test_threads_left_behind_do_not_hold_a_job(seen):
    began = time.monotonic()
    assert seen.run([("thread_behind",)]).ends() == {"job0": "done"}
    assert time.monotonic() - began < 30  # the thread sleeps for 60


def test_two_workers_overlap(seen):
    seen.run([("nap", 1.5, seen.folder, name) for name in "abc"])
    spans = {name: (float(start), float(end)) for name, start, end in seen.marks()}
    assert spans["a"][0] < spans["b"][1]
    assert spans["b"][0] < spans["a"][1]
    assert spans["c"][0] > min(spans["a"][1], spans["b"][1])


def test_jobs_wait_for_those_before_them(seen):
    jobs = [
        Job("last", ("nap", 0.0, seen.folder, "last"), ("middle", "elsewhere")),
        Job("middle", ("nap", 0.0, seen.folder, "middle"), ("first",)),
        Job("first", ("fail",)),
        Job("free", ("nap", 0.0, seen.folder, "free")),
    ]
    seen.run(jobs, workers=3)
    started = [event.key for event in seen.events if event.kind == "started"]
    assert started == ["first", "free", "middle", "last"]
    assert seen.ends()["last"] == "done"


@pytest.mark.parametrize("after", [("b",), ("a",)])
def test_a_circle_is_refused_before_anything_starts(seen, after):
    with pytest.raises(ValueError, match="cycle"):
        seen.run([Job("a", ("ok",), after), Job("b", ("ok",), ("a",))])
    with pytest.raises(ValueError, match="same key"):
        seen.run([Job("a", ("ok",)), Job("a", ("ok",))])
    assert seen.events == []


def test_a_chatty_job_has_a_short_log(seen):
    seen.run([("chatter", 30 * 2**20)])
    log = seen.log()
    assert seen.ends() == {"job0": "done"}
    assert len(log) <= 10 * 2**20
    assert log.startswith(b"the beginning")
    assert b"left out" in log
    assert log.rstrip().endswith(b"the end \\ud800")


def test_a_log_stays_within_its_limit(tmp_path):
    log = CappedLog(tmp_path / "log", limit=1000)
    for i in range(500):
        log.write(b"%d\n" % i)
        assert (tmp_path / "log").stat().st_size <= 1000
    log.close()
    text = (tmp_path / "log").read_text()
    assert text.startswith("0\n1\n")
    assert text.endswith("498\n499\n")


def test_what_a_job_finds(seen, monkeypatch):
    seen.run([("ok",)])  # the server runs from here on, with the environment of now
    monkeypatch.setenv("VBENCH_TEST", "late")
    seen.run([("surroundings", seen.folder)])
    ((threads, own, late, openmp, warm, cuda, leads, code, plugins),) = seen.marks()
    assert (threads, late, openmp, warm, cuda, leads) == ("1", "late", "1", "True", "False", "True")
    assert int(own) == 2  # with the guard
    assert (code, plugins) == ("True", "False")  # vbench's own code is there, and nobody else's
    assert b"preloaded" not in seen.log()


def test_threads_are_as_many_as_asked_for(seen):
    seen.run([("surroundings", seen.folder)], threads=2)
    threads, _, _, openmp, *_ = seen.marks()[0]
    assert (threads, openmp) == ("2", "2")
    assert psutil.Process(forkserver._forkserver._forkserver_pid).num_threads() == 1


def test_a_job_may_have_processes(seen):
    assert seen.run([("nested",)]).ends() == {"job0": "done"}


def test_nothing_accumulates_in_the_driver(seen):
    seen.run([("ok",)])
    before = psutil.Process().num_fds()
    seen.run([("os_exit", 1) if i % 2 else ("ok",) for i in range(10)])
    assert psutil.Process().num_fds() <= before


def test_a_callback_that_raises_ends_the_run(seen):
    def refuse(job, status, reason):
        raise OSError("no space left")

    jobs = [Job("bad", ("fail",)), Job("slow", ("nap", 60, seen.folder))]
    began = time.monotonic()
    with pytest.raises(OSError, match="no space left"):
        LocalExecutor(Limits("targets:call", seen.folder), workers=2).run(jobs, seen.events.append, refuse)
    assert time.monotonic() - began < 30  # the other would nap for 60
    assert "slow" not in seen.ends()


def test_a_killed_server_is_replaced(seen):
    seen.run([("ok",)])
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    assert seen.run([Job("next", ("ok",))]).ends()["next"] == "done"


def test_in_this_process(seen):
    seen.run([("progress", 1), ("fail",), ("exit_with", 3), ("memory_error",), ("ok", "diverged")], workers=0)
    assert list(seen.ends().values()) == ["done", "failed", "crashed", "oom", "diverged"]
    assert [key for key, _, _ in seen.lost] == ["job1", "job2", "job3"]
    assert seen.kinds("job0") == ["started", "progress", "progress", "ended"]


def test_without_a_fork_server(seen, monkeypatch):
    monkeypatch.setattr("vbench.execute.server.forks", lambda: False)
    assert seen.run([("surroundings", seen.folder), ("segfault",)]).ends() == {
        "job0": "done",
        "job1": "crashed",
    }
    assert seen.marks()[0][0] == "1"
