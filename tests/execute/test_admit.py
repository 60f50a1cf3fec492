"""Jobs that another run has: they wait while others go before them, or have ended elsewhere."""

from vbench.execute import jobs as running
from vbench.execute.jobs import Job, Limits, Wait
from vbench.execute.local import LocalExecutor


def test_a_job_waits_its_turn_or_has_ended_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "_AGAIN", 0.01)
    asked, events = [], []

    def admit(job):
        asked.append(job.key)
        if job.key == "busy" and asked.count("busy") < 3:
            return Wait("somebody has")
        return "diverged" if job.key == "theirs" else job

    jobs = [
        Job("busy", ("ok",)),
        Job("theirs", ("ok",)),
        Job("after", ("ok",), ("theirs",)),
        Job("last", ("ok",), ("busy",)),
    ]
    executor = LocalExecutor(Limits("targets:call", tmp_path), workers=0)
    executor.run(jobs, events.append, lambda *lost: events.append(lost), admit)
    assert [(event.kind, event.key, event.status) for event in events] == [
        ("waiting", "busy", ""),
        ("ended", "theirs", "diverged"),
        ("started", "after", ""),
        ("ended", "after", "done"),
        ("started", "busy", ""),
        ("ended", "busy", "done"),
        ("started", "last", ""),
        ("ended", "last", "done"),
    ]
    assert asked.count("busy") == 3
