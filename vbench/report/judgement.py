"""Verdicts on the terminal, and as rows for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from vbench.testing.judging import checks_of
from vbench.testing.subject import Subject, registered
from vbench.testing.verdict import CheckResult, Verdict, overall, run_checks

__all__ = ["check", "row"]

_STYLE = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow"}


def check(names: Sequence[str] = (), distribution: str | None = None, as_json: bool = False) -> int:
    """Judge components and show what was found, each as soon as it is; returns the exit code."""
    subjects = registered(names, distribution)
    out = Console(stderr=as_json)
    rows = []
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task("")
        for number, subject in enumerate(subjects, 1):
            label = f"{number}/{len(subjects)} {subject.kind}:{subject.name}"
            results: list[CheckResult] = []
            for result in run_checks(checks_of(subject)):
                results.append(result)
                progress.update(task, description=f"{label} {result.name}")
            rows.append(row(subject, results))
            if not as_json:
                _show(out, subject, results, long=len(subjects) == 1)
    failed = sum(r["verdict"] == Verdict.FAIL for r in rows)
    unsure = sum(r["verdict"] == Verdict.INCONCLUSIVE for r in rows)
    if as_json:
        json.dump(rows, sys.stdout, indent=2)
        print()
    else:
        passed = len(rows) - failed - unsure
        out.print(Text(f"{passed} PASS, {failed} FAIL, {unsure} INCONCLUSIVE of {len(rows)} components"))
    return 1 if failed else 0


def row(subject: Subject, results: Sequence[CheckResult]) -> dict[str, Any]:
    """One component: name, kind, verdict and its checks."""
    return {
        "name": subject.name,
        "kind": subject.kind,
        "distribution": subject.component.distribution,
        "version": subject.component.version,
        "verdict": str(overall(results)),
        "checks": [
            {"name": r.name, "verdict": str(r.verdict), "figure": r.figure, "seconds": round(r.seconds, 4)}
            for r in results
        ],
    }


def _show(out: Console, subject: Subject, results: Sequence[CheckResult], long: bool) -> None:
    """One line, and one more for each check that did not pass; every check where one component was asked for."""
    verdict = overall(results)
    passed = sum(r.verdict is Verdict.PASS for r in results)
    seconds = sum(r.seconds for r in results)
    line = Text(f"{verdict:<13}", style=_STYLE[verdict])
    line.append(f"{subject.kind}:{subject.name}  {passed}/{len(results)} checks, {seconds:.1f} s", style="default")
    out.print(line, soft_wrap=True)
    for result in results:
        if long or result.verdict is not Verdict.PASS:
            detail = Text(f"  {result.verdict:<13}", style=_STYLE[result.verdict])
            detail.append(f"{result.name}  {result.figure}", style="default")
            out.print(detail, soft_wrap=True)
