"""Contestants in turns, ratios within a turn, and the table that they go to."""

from __future__ import annotations

import itertools
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

TABLE = Path(__file__).parent / "README.md"
HEAD = ("what", "who", "against", "figure", "wanted", "who takes", "against takes", "products", "timing")
_BEGIN, _END = "<!-- measured -->\n", "<!-- end -->\n"


class Row(NamedTuple):
    """One line of the table, the first three cells its name."""

    what: str
    who: str
    against: str
    figure: str
    wanted: str = ""
    own: str = ""
    other: str = ""
    rate: str = ""
    timing: str = ""


def turns(benchmark: Callable, runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round; who starts changes from round to round, and two rounds warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    places = itertools.count()

    def play() -> None:
        first = next(places) % len(runs)
        for name in [*runs][first:] + [*runs][:first]:
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)

    benchmark.pedantic(play, rounds=rounds, warmup_rounds=2)
    return {name: values[2:] for name, values in seconds.items()}


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """Median of the rounds' ratios, and their quartiles."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(theirs, ours, strict=True)], n=4)
    return middle, low, high


def duration(seconds: float) -> str:
    """With a unit that needs no zeros."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds / 1e-6:.2f} us"


def conditions(timing: str) -> str:
    """Where and beside what."""
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    return f"{timing}{load}, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def written(rows: Iterable[Row], text: str) -> str:
    """``text`` with these rows in its table, in place of those of the same name."""
    before, _, rest = text.partition(_BEGIN)
    table, _, after = rest.partition(_END)
    lines = [re.split(r"\s*\|\s*", line.strip("| \n")) for line in table.splitlines()[2:]]
    known = {tuple(cells[:3]): cells for cells in lines if len(cells) == len(HEAD)}
    known |= {row[:3]: list(row) for row in rows}
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in [HEAD, ["---"] * len(HEAD), *known.values()])
    return f"{before}{_BEGIN}{table}{_END}{after}"
