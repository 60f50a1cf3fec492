"""The suite that an engine's author runs: this machine's executor passes it, and each wrong one fails the check that
names what is wrong."""

from __future__ import annotations

import sys

import pytest

from tests.execute import wrong
from vbench.execute import running
from vbench.testing import Verdict, checks, parametrize_with_checks
from vbench.testing import executor_runs as suite

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups"),
    pytest.mark.timeout(600),
]


@parametrize_with_checks([("executor", "local")])
def test_this_machine(check) -> None:
    check()


WRONG = {
    wrong.Loses: "ends-once",
    wrong.RunsTwice: "runs-once",
    wrong.SwallowsDeaths: "statuses",
    wrong.IgnoresOrder: "order",
    wrong.DoesNotAsk: "admission",
    wrong.HasNoLimit: "timeout",
    wrong.UsedAgain: "fresh-processes",
    wrong.LogsElsewhere: "logs",
    wrong.LeavesOrphans: "no-orphans",
    wrong.IsDeaf: "ctrl-c",
    wrong.Detached: "killed-driver",
    wrong.InAnotherPrecision: "serial-equal",
}


CASES = [
    pytest.param(*case, id=case[1], marks=[pytest.mark.slow] * (case[1] in ("ctrl-c", "killed-driver", "serial-equal")))
    for case in WRONG.items()
]


@pytest.mark.parametrize(("executor", "name"), CASES)
def test_a_wrong_one_is_caught_by_name(executor, name, monkeypatch) -> None:
    for place, value in {"_PATIENCE": 4.0, "_TIMEOUT": 2.0, "_STAY": 8}.items():
        monkeypatch.setattr(suite, place, value)
    monkeypatch.setattr(running, "GRACE", 0.3)
    asked = {check.name: check for check in checks("executor", executor)}
    assert asked[name].run().verdict is Verdict.FAIL


def test_a_death_that_is_told_as_success_is_caught_where_a_worker_is_killed_too() -> None:
    asked = {check.name: check for check in checks("executor", wrong.SwallowsDeaths)}
    assert asked["killed-worker"].run().figure == "its job is told as done, and did not end"
