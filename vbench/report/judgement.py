"""Verdicts on the terminal, and as rows for scripts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from vbench.discovery import digest
from vbench.grid import Choice, GridError
from vbench.listing import study_catalogue
from vbench.provenance import code_digest
from vbench.records import Store, no_results
from vbench.testing.judging import checks_of
from vbench.testing.subject import Subject, registered
from vbench.testing.subject import subject as subject_of
from vbench.testing.verdict import CheckResult, Verdict, overall, run_check
from vbench.verdicts import UNTESTED, JudgedEstimator, estimator_of, load_verdicts, save_verdicts, suite_digest

__all__ = ["check", "check_study", "row", "words"]

_FACTOR: Final = re.compile(r"declared biased: r (-?\d+\.\d+) in ")
_STYLE = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow"}


def check(names: Sequence[str] = (), distribution: str | None = None, as_json: bool = False) -> int:
    """Judge components and show what was found, each as soon as it is; returns the exit code."""
    return _judge(registered(names, distribution), as_json, lambda subject, results: None)


def check_study(study: Path, as_json: bool = False) -> int:
    """Judge every estimator that a study used, with its parameters, unless this code was judged already.

    The verdicts are kept in the study's folder, each as soon as it is there; returns the exit code.
    """
    if none := no_results(study):
        print(none, file=sys.stderr)
        return 2
    study_catalogue(study)  # with the plugin files that are kept there
    specs = [o.spec["estimator"] for o in Store(study).outcomes().values() if "estimator" in o.spec]
    used = {estimator_of(spec["name"], spec["parameters"]): spec for spec in specs}
    known = {(v.estimator, v.code, v.plugin, v.suite) for v in load_verdicts(study)}
    subjects: dict[str, Subject] = {}
    for text, spec in sorted(used.items()):
        try:
            found = subject_of("estimator", Choice("estimator", spec["name"], {}, spec["parameters"]).full)
        except GridError as error:  # of a plugin that is not here, or that has changed
            print(f"{error}; it stays {UNTESTED}", file=sys.stderr)
            continue
        if (text, *_code(found)) not in known:
            subjects[text] = found
    texts = {id(found): text for text, found in subjects.items()}

    def keep(judged: Subject, results: Sequence[CheckResult]) -> None:
        save_verdicts(study, [JudgedEstimator(texts[id(judged)], *_code(judged), words(results))])

    return _judge(list(subjects.values()), as_json, keep)


def _code(judged: Subject) -> tuple[str, str, str]:
    """Digests of vbench, of the plugin and of the judge."""
    component = judged.component
    plugin = "" if component.distribution == "vbench" else digest(component.module)
    return code_digest(), plugin, suite_digest()


def words(results: Sequence[CheckResult]) -> str:
    """A verdict as it stands beside a number.

    ``PASS(5%)``: its gradient is that of its bound, within 5%, wherever an exact one was at hand. A declared bias is
    told by the factor r between its gradient's expectation and the exact one, the farthest from 1 of all parts.
    """
    verdict = overall(results)
    exact = [r for r in results if r.name.startswith("exact[") and not r.name.endswith(":value")]
    if verdict is not Verdict.PASS:
        return str(verdict)
    if not exact:
        return UNTESTED
    factors = [float(found[1]) for r in exact if (found := _FACTOR.match(r.figure))]
    if not factors:
        return "PASS(5%)"
    return f"declared biased r = {max(factors, key=lambda r: abs(r - 1)):.2f}"


def _judge(subjects: Sequence[Subject], as_json: bool, keep: Callable[[Subject, Sequence[CheckResult]], None]) -> int:
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
            for asked in checks_of(subject):
                progress.update(task, description=f"{label} {asked.name}")
                results.append(run_check(asked))
            rows.append(row(subject, results))
            keep(subject, results)
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
