"""How long a plan is said to take: by what finished cells took, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.small import small
from vbench.grid import Cell, read_grid
from vbench.listing import load_catalogue
from vbench.planning import Plan, Planned
from vbench.records import Outcome, Store
from vbench.report.console import plan_json
from vbench.report.estimate import _amount, _duration, estimate, told

CATALOGUE = load_catalogue()


def cells(**changes: Any) -> list[Cell]:
    return list(read_grid(small(**changes), CATALOGUE).cells())


def plan_of(folder: Path, finished: list[tuple[Cell, float]], waiting: list[Cell], references: int = 0) -> Plan:
    kept = Store(folder)
    for number, (cell, seconds) in enumerate(finished):
        facts = {"seconds": seconds, "kept": f"state of {number}"}
        kept.commit(Outcome(f"done{number}", "done", "", cell.labels(), cell.seed, cell.spec(), facts))
    planned = [Planned(cell, f"wait{number}", "run") for number, cell in enumerate(waiting)]
    grid = read_grid(small(), CATALOGUE)
    runs = tuple(replace(p, key=f"ref{n}") for n, p in enumerate(planned[:references]))
    return Plan(grid, folder, tuple(planned), runs, kept.outcomes())


def test_cells_like_those_that_finished_take_as_long(tmp_path: Path) -> None:
    short = cells(seeds=[0, 1])
    plan = plan_of(tmp_path, [(short[0], 10.0), (short[1], 14.0)], cells(seeds=[2, 3, 4, 5]))
    found = estimate(plan, workers=2)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    assert found == (24.0, 2 * size, 2, 2, 0)
    assert estimate(plan, workers=1).seconds == estimate(plan, workers=0).seconds == 48.0
    assert estimate(plan, workers=100).seconds == 12.0, "no less than its longest cell"
    assert told(found, plan) == f"about 24 s with 2 workers, {_amount(2 * size)}; from 2 finished cells"
    assert plan_json(plan)["estimate"]["cells"] == 2


def test_more_steps_take_longer_and_what_is_there_is_spared(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [(cells()[0], 10.0)], cells(seeds=[0], train={"steps": 120, "batch": 16}), references=1)
    assert estimate(plan, workers=1) == (60.0, estimate(plan, workers=1).size, 1, 1, 0)
    going_on = replace(plan, cells=(replace(plan.cells[0], start="state of 0"),), references=())
    assert estimate(going_on, workers=1).seconds == 20.0


def test_a_budget_takes_as_long_as_it_is(tmp_path: Path) -> None:
    def budget(**amount: float) -> dict[str, Any]:
        return {"train": {"budget": amount, "batch": 16}}

    finished = [(cells(**budget(evaluations=100))[0], 10.0), (cells(**budget(seconds=5.0))[0], 8.0)]
    for amount, seconds in (({"evaluations": 300}, 30.0), ({"seconds": 10.0}, 16.0), ({"seconds": 5.0}, 8.0)):
        plan = plan_of(tmp_path / str(amount), finished, cells(seeds=[7], **budget(**amount)))
        assert estimate(plan, workers=1)[0] == seconds
        assert estimate(plan, workers=1).unlike == 0
    plan = plan_of(tmp_path / "other", finished[:1], cells(seeds=[7], **budget(seconds=3.0)))
    assert (estimate(plan, workers=1).seconds, estimate(plan, workers=1).unlike) == (10.0, 1)


def test_cells_of_another_kind_are_told(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [(cells()[0], 10.0)], cells(seeds=1, estimators=["nvil", "reparam"]))
    found = estimate(plan, workers=1)
    assert (found.seconds, found.unlike) == (20.0, 1)
    assert told(found, plan).endswith("from 1 finished cell, which 1 of those to run are not like")


def test_nothing_is_said_of_what_is_not_known(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [], cells(seeds=1))
    assert estimate(plan) is None
    assert told(None, plan) == "time and disk are not known before a cell of this study has finished"
    assert plan_json(plan)["estimate"] is None
    nothing = plan_of(tmp_path, [(cells()[0], 10.0)], [])
    assert told(estimate(nothing), nothing) == ""


def test_failed_cells_tell_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [(cells()[0], 10.0)], cells(seeds=[1]))
    failed = {key: replace(outcome, status="timeout") for key, outcome in plan.stored.items()}
    assert estimate(replace(plan, stored=failed)) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3570, "1 h"),
        (7805, "2 h 10 min"),
        (7200, "2 h"),
        (90000, "1 d 1 h"),
        (86399, "1 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(3, "1 kB"), (35.2e6, "35 MB"), (1.23e6, "1.2 MB"), (4e9, "4.0 GB")])
def test_amounts(size: float, text: str) -> None:
    assert _amount(size) == text
