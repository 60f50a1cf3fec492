"""GPUs in shares: what the jobs' environment says. No device is touched, and none need be there."""

import sys
from collections import Counter

import pytest

from vbench.execute.devices import VARIABLE, Devices, devices_here
from vbench.execute.jobs import ExecutorError, Limits
from vbench.execute.local import LocalExecutor


@pytest.mark.parametrize(
    ("share", "jobs", "seen"),
    [
        (1 / 3, 6, {"3": 3, "GPU-5": 3}),
        (0.5, 4, {"3": 2, "GPU-5": 2}),
        (0.7, 2, {"3": 1, "GPU-5": 1}),
        (1, 2, {"3": 1, "GPU-5": 1}),
        (2, 1, {"3,GPU-5": 1}),
    ],
)
def test_a_device_is_full_when_its_shares_are_taken(share, jobs, seen) -> None:
    devices = Devices(["3", "GPU-5"])
    assert devices.room(share) == jobs
    taken = [devices.take(share) for _ in range(jobs)]
    assert Counter(one[VARIABLE] for one in taken) == seen
    with pytest.raises(LookupError, match="no room"):
        devices.take(share)
    devices.give(taken[-1], share)
    assert devices.take(share) == taken[-1]


def test_nothing_taken_says_nothing() -> None:
    assert Devices(["0"]).take(0) == {}
    assert Devices([]).room(0.5) == 0
    assert Devices(["0"]).room(2) == 0


@pytest.mark.parametrize(
    ("told", "names"), [("0, 2", ("0", "2")), ("", ()), ("-1", ()), ("GPU-a1,MIG-b", ("GPU-a1", "MIG-b"))]
)
def test_the_devices_are_those_that_the_process_may_use(monkeypatch, told, names) -> None:
    monkeypatch.setenv(VARIABLE, told)
    assert devices_here().names == names


def test_without_devices_nothing_starts(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(ExecutorError, match=r"gpu=0\.5: 0 GPUs are visible here"):
        LocalExecutor(Limits("targets:call", tmp_path), 2, gpu=0.5)


@pytest.mark.skipif(sys.platform == "win32", reason="processes as elsewhere")
def test_jobs_share_devices(seen, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "3,5")
    seen.run([("sees", seen.folder, 4)] * 4, workers=8, gpu=0.5)
    assert Counter(word for (word,) in seen.marks()) == {"3": 2, "5": 2}
    assert devices_here().room(0.5) == 4
    assert all(devices_here().take(1.0) for _ in range(2))
    for name in ("3", "5"):
        devices_here().give({VARIABLE: name}, 1.0)
