"""Live progress of a run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from vbench.execute.logs import plain

__all__ = ["RunProgress"]


class RunProgress:
    """Shows cells done, steps per second, time left, and what each worker is at.

    Args:
        total: cells and reference runs that will run.
        names: a short name for each key.
        console: where to write.
    """

    def __init__(self, total: int, names: Mapping[str, str], console: Console) -> None:
        self.total, self.names, self.console = total, names, console
        self.ended = 0
        self.started = time.monotonic()
        self._fractions: dict[str, float] = {}
        self._bars: dict[str, TaskID] = {}
        self._others: set[str] = set()
        self._last_line = 0.0
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._whole = self._live.add_task("cells", total=total, note="")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Any) -> None:
        """Take one event of the executor."""
        name = self.names.get(event.key, event.key)
        if event.kind == "started":
            self._bars[event.key] = self._live.add_task(f"  {name}", total=None, note="")
            self._fractions[event.key] = 0.0
        elif event.kind == "progress" and event.key in self._bars:
            self._fractions[event.key] = event.step / max(event.steps, 1)
            self._live.update(self._bars[event.key], completed=event.step, total=event.steps)
        elif event.kind == "ended":
            self._end(event, name)
        elif event.kind == "waiting" and event.reason not in self._others:
            self._others.add(event.reason)
            self.console.print(Text(f"waiting for cells that {event.reason}"), soft_wrap=True)
        self._live.update(self._whole, completed=self.ended, note=self._left())
        self._plain_line(event)

    def _end(self, event: Any, name: str) -> None:
        self.ended += 1
        self._fractions.pop(event.key, None)
        if event.key in self._bars:
            self._live.remove_task(self._bars.pop(event.key))
        if event.status not in ("done", "skipped"):
            self.console.print(Text(plain(f"{event.status}: {name}: {event.reason}")), soft_wrap=True)

    def _left(self) -> str:
        """Time left, from the share of all work done so far."""
        share = self.ended + sum(self._fractions.values())
        if share <= 0 or self.ended == self.total:
            return ""
        seconds = (time.monotonic() - self.started) * (self.total - share) / share
        minutes, seconds = divmod(round(seconds), 60)
        return f"about {minutes}:{seconds:02d} left"

    def _plain_line(self, event: Any) -> None:
        if self.console.is_terminal:
            return
        now = time.monotonic()
        if event.kind == "ended" or now - self._last_line > 30:
            self._last_line = now
            spent = now - self.started
            text = f"{self.ended}/{self.total} cells, {spent:.0f} s, {self._left()}".rstrip(", ")
            self.console.print(Text(text), soft_wrap=True)
