"""One thread, and a table of what was measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
import torch

from benchmarks import pairs

os.environ["TQDM_DISABLE"] = "1"
_ROWS = pytest.StashKey[list[pairs.Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--timing",
        choices=("shared", "exclusive"),
        help="write the figures to benchmarks/README.md, marked: exclusive when nothing else runs on the machine",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[pairs.Row], None]:
    """Put a row in the table."""
    rows = request.config.stash[_ROWS]
    timing = pairs.conditions(request.config.getoption("--timing") or "not noted")
    return lambda row: rows.append(row._replace(timing=timing))


@pytest.fixture
def compare(benchmark, note: Callable[[pairs.Row], None]) -> Callable[..., None]:
    """Time contestants in turns, and note how many times as fast one is as another.

    Args of the function returned:
        what: one call of each does so many of.
        runs: contestants, with how many they do. The last is matrix products alone.
        operations: of one call of the last.
        wanted: who, against whom, and the figure to reach (0: none).
    """

    def measure(
        what: str,
        runs: Mapping[str, tuple[Callable[[], object], float]],
        operations: float,
        wanted: Sequence[tuple[str, str, float]],
        rounds: int = 30,
    ) -> None:
        seconds = pairs.turns(benchmark, {name: run for name, (run, _) in runs.items()}, rounds)
        each = {name: [s / runs[name][1] for s in values] for name, values in seconds.items()}
        typical = {name: sorted(values)[len(values) // 2] for name, values in each.items()}
        products = [*runs][-1]
        rate = operations / runs[products][1] / typical[products] / 1e9
        for who, against, least in wanted:
            middle, low, high = pairs.ratio(each[against], each[who])
            note(
                pairs.Row(
                    what,
                    who,
                    against,
                    f"{middle:.2f} ({low:.2f} to {high:.2f})",
                    f"{least:.2f}" if least else "",
                    pairs.duration(typical[who]),
                    pairs.duration(typical[against]),
                    f"{rate:.0f} GFLOP/s",
                )
            )
            benchmark.extra_info[f"{who} / {against}"] = middle

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    for row in rows:
        terminalreporter.write_line(" | ".join(row))
    if rows and config.getoption("--timing"):
        pairs.TABLE.write_text(pairs.written(rows, pairs.TABLE.read_text("utf-8")), "utf-8")
