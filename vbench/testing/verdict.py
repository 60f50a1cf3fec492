"""What a check finds, and how checks are run: named, timed, and never stopped by an exception of the accused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch

__all__ = ["Check", "CheckResult", "Outcome", "Verdict", "overall", "run_checks"]


class Verdict(StrEnum):
    """PASS is never said for want of evidence: what could not be decided is INCONCLUSIVE."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a word to enter by
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Outcome(NamedTuple):
    """A verdict and the figure that it rests on, one line."""

    verdict: Verdict
    figure: str = ""


class Check(NamedTuple):
    """One question with its name; asking it may be slow and may raise."""

    name: str
    run: Callable[[], Outcome]


@dataclass(frozen=True)
class CheckResult:
    """One answered check."""

    name: str
    verdict: Verdict
    figure: str
    seconds: float


def run_checks(checks: Iterable[Check]) -> Iterator[CheckResult]:
    """Ask every check, one torch thread for all: small tensors gain nothing by more."""
    for check in checks:
        yield run_check(check)


def run_check(check: Check) -> CheckResult:
    """Ask one check; whatever the accused raises is a FAIL with its reason."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        outcome = check.run()
    except Exception as error:
        outcome = Outcome(Verdict.FAIL, reason(error))
    finally:
        torch.set_num_threads(threads)
    return CheckResult(check.name, outcome.verdict, outcome.figure, time.perf_counter() - start)


def reason(error: BaseException) -> str:
    """One line: what was raised, and the innermost line of code that is neither torch's nor the judge's."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/torch/" not in file and "/vbench/testing/" not in file:
            place = f" ({file.rpartition('/')[2]}:{trace.tb_lineno})"
        trace = trace.tb_next
    text = " ".join(str(error).split())[:200] or "no message"
    return f"raised {type(error).__name__}: {text}{place}"


def overall(results: Iterable[CheckResult]) -> Verdict:
    """FAIL if anything failed, else INCONCLUSIVE if anything could not be decided, or nothing was asked."""
    found = {result.verdict for result in results}
    if Verdict.FAIL in found:
        return Verdict.FAIL
    return Verdict.PASS if found == {Verdict.PASS} else Verdict.INCONCLUSIVE
