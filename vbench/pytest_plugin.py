"""What pytest does about checks: says whom it judges, holds waivers to a reason, ends with the figures of the failed.

pytest finds it by its entry point wherever vbench is installed; runs without a check see nothing of it. Imports no
torch: that comes with the first test file that imports :mod:`vbench.testing`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from vbench.discovery import version

_CHECK, _VERDICT, _FIGURE = "vbench_check", "vbench_verdict", "vbench_figure"


def _asked(item: pytest.Item) -> Any:
    """The check that a test is a case of, or None."""
    if "vbench.testing" not in sys.modules:
        return None
    from vbench.testing.pytest_support import Asked

    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return next((value for value in parameters.values() if isinstance(value, Asked)), None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """An xfail on a check is a waiver: it gives its reason, and is strict."""
    if _asked(item) is None:
        return
    for mark in list(item.iter_markers("xfail")):
        if not str(mark.kwargs.get("reason", "")).strip():
            raise pytest.UsageError(f"{item.nodeid}: xfail of a check without a reason: give reason=... or use waivers")
        item.add_marker(pytest.mark.xfail(*mark.args, **{**mark.kwargs, "strict": True}), append=False)


def pytest_report_collectionfinish(items: Sequence[pytest.Item]) -> list[str]:
    """One line for each component that is judged."""
    found = Counter(asked.component for asked in map(_asked, items) if asked)
    if not found:
        return []
    judged = ", ".join(f"{component} ({count} checks)" for component, count in found.items())
    return [f"vbench {version()}: judging {judged}"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """The verdict and its figure go with the reports: to other processes, and into JUnit's XML."""
    asked = _asked(item)
    if call.when == "call" and asked and asked.result:
        item.user_properties += [
            (_CHECK, f"{asked.component} {asked.result.name}"),
            (_VERDICT, str(asked.result.verdict)),
            (_FIGURE, asked.result.figure),
        ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figure of every failed check, in full."""
    failed = [dict(report.user_properties) for report in terminalreporter.getreports("failed")]
    failed = [found for found in failed if found.get(_VERDICT) == "FAIL"]
    if failed:
        terminalreporter.section("vbench: checks that FAIL")
        for found in failed:
            terminalreporter.line(f"{found[_CHECK]}  {found[_FIGURE]}")
