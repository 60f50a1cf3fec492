"""Progress where nobody watches: plain lines that say how far a run is, and every failure at once."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from vbench.execute.jobs import Event
from vbench.report.progress import RunProgress


def lines(*events: Event, terminal: bool = False) -> list[str]:
    console = Console(file=StringIO(), width=80, force_terminal=terminal)
    with RunProgress(2, {"a": "digits reparam seed 0"}, console) as progress:
        for event in events:
            progress(event)
    return console.file.getvalue().splitlines()


def test_each_end_is_a_line_without_a_terminal() -> None:
    found = lines(Event("started", "a"), Event("ended", "a", status="done"), Event("ended", "b", status="done"))
    assert [line.split(",")[0] for line in found] == ["0/2 cells", "1/2 cells", "2/2 cells"]
    assert "left" in found[1]
    assert "left" not in found[2]


def test_a_failure_is_named_with_its_reason_at_once() -> None:
    found = lines(Event("started", "a"), Event("ended", "a", status="failed", reason="ValueError: [boom]"))
    assert "failed: digits reparam seed 0: ValueError: [boom]" in found


def test_a_terminal_gets_bars() -> None:
    found = "\n".join(lines(Event("started", "a"), Event("progress", "a", 5, 10), terminal=True))
    assert "digits reparam seed 0" in found
    assert "5/10" in found
