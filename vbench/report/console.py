"""A run and a plan on the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from typing import Any

from rich.console import Console
from rich.text import Text

from vbench.execute.logs import plain
from vbench.grid import Grid
from vbench.planning import Plan, Planned
from vbench.report.estimate import estimate, told
from vbench.report.progress import RunProgress
from vbench.report.summary import summarize, tables
from vbench.study import Result
from vbench.study import run as run_study

__all__ = ["plan_json", "run", "show_plan", "watched"]


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan for scripts: counts, and each skipped cell with its reason."""
    return {
        "name": plan.grid.name,
        "results": str(plan.folder),
        "cells": len(plan.cells),
        "runnable": plan.count("run") + plan.count("done"),
        "to_run": plan.count("run"),
        "done": plan.count("done"),
        "references": len(plan.references),
        "stale": [{**_identity(p), "reason": p.reason} for p in plan.cells if p.reason.startswith("stale")],
        "skipped": [{**_identity(p), "reason": p.reason} for p in plan.cells if p.action == "skip"],
        "estimate": found._asdict() if (found := estimate(plan)) else None,
    }


def _identity(planned: Planned) -> dict[str, Any]:
    return {"cell": planned.key, **planned.cell.labels(), "seed": planned.cell.seed}


def show_plan(plan: Plan, console: Console | None = None, workers: int | None = None) -> None:
    """Counts, then one line per reason, and how long it may take."""
    console = console or Console()
    console.print(Text(_counts(plan)), soft_wrap=True)
    for action, heading in (("skip", "skipped"), ("run", "to run"), ("done", "kept")):
        reasons = Counter(p.reason for p in plan.cells if p.action == action and p.reason)
        for reason, count in reasons.items():
            console.print(Text(f"  {heading}: {count} x {reason}"), soft_wrap=True)
    if text := told(estimate(plan, workers), plan):
        console.print(Text(f"  {text}"), soft_wrap=True)


def _counts(plan: Plan) -> str:
    cells, skipped = len(plan.cells), plan.count("skip")
    text = f"{plan.grid.name}: {cells} cell{'s' * (cells != 1)}: {plan.count('run')} to run, {plan.count('done')} done"
    text += f", {skipped} skipped" if skipped else ""
    waiting = len(plan.references)
    return text + (f"; first {waiting} reference run{'s' * (waiting != 1)}" if waiting else "")


def run(grid: Grid, **settings: Any) -> int:
    """Run a grid with progress, end with the comparison table and where the records are; returns the exit code."""
    console = Console()
    try:
        result = watched(grid, console, **settings)
    except KeyboardInterrupt:
        console.print("stopped; what had finished is kept. The same command goes on from here.", style="bold")
        return 130
    _show_result(result, console)
    return 1 if result.failed else 0


def watched(grid: Grid, console: Console, **settings: Any) -> Result:
    """Run a grid with progress."""
    progress: list[RunProgress] = []
    workers = 1 if settings.get("exclusive") else settings.get("workers")

    def on_plan(plan: Plan) -> None:
        show_plan(plan, console, workers)
        if not plan.count("run"):
            console.print("nothing to compute: every cell that can run is done", style="bold")
            return
        names = {p.key: _short(p) for p in plan.cells} | {p.key: f"reference {_short(p)}" for p in plan.references}
        shown = RunProgress(plan.count("run") + len(plan.references), names, console)
        progress.append(stack.enter_context(shown))

    with contextlib.ExitStack() as stack:
        return run_study(
            grid, on_plan=on_plan, on_event=lambda event: progress[0](event) if progress else None, **settings
        )


def _short(planned: Planned) -> str:
    """What tells a cell from its neighbours on one line."""
    labels = planned.cell.labels()
    return " ".join(
        filter(None, (labels["dataset"], labels["estimator"], labels["train"], f"seed {planned.cell.seed}"))
    )


def _show_result(result: Result, console: Console) -> None:
    import vbench

    records, cells = vbench.load(result.folder), vbench.load(result.folder, "cells")
    asked = cells.set_index("cell", drop=False).loc[list(result.outcomes)]  # in the grid's order
    summary = summarize(records[records["cell"].isin(result.outcomes)], asked)
    console.print()
    for axis, value in summary.common.items():
        console.print(Text(f"{axis}: {value}"), soft_wrap=True)
    for item in tables(summary):
        console.print(item, soft_wrap=isinstance(item, Text))
    for note in summary.notes:
        console.print(Text(note), style="dim", soft_wrap=True)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(result.counts.items()))
    console.print(Text(f"{counts}; {result.computed} computed now"), soft_wrap=True)
    console.print(
        Text(f"records: {result.folder / 'records'}   in Python: vbench.load({str(result.folder)!r})"),
        soft_wrap=True,
    )
    for outcome in result.failed:
        labels = " ".join(outcome.labels[axis] for axis in ("dataset", "encoder", "estimator"))
        line = f"{outcome.status}: {labels} seed {outcome.seed}: {outcome.reason}"
        print(plain(line), file=sys.stderr)
        print(f"  what it said: vbench log {result.folder} {outcome.key[:8]}", file=sys.stderr)
