"""How long a plan may take and how much it may write, by what finished cells of the same study did."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vbench import checkpoints, kept
from vbench.grid import Cell, Train
from vbench.grid.parameters import canonical
from vbench.planning import Plan, Planned
from vbench.records import Outcome

__all__ = ["Estimate", "estimate", "told"]


class Estimate(NamedTuple):
    """What is to be expected of a plan.

    Attributes:
        seconds: with so many ``workers``.
        size: bytes of records, logs, checkpoints and what is kept.
        cells: finished ones that this comes from.
        unlike: cells to run that differ from all of these in more than seed and steps: taken for average ones.
    """

    seconds: float
    size: float
    workers: int
    cells: int
    unlike: int


def estimate(plan: Plan, workers: int | None = None) -> Estimate | None:
    """None where nothing is to run, or nothing like it has finished.

    Args:
        plan: with what its folder holds.
        workers: cells at once, 0 and 1 alike; None for as many as there are cores.
    """
    waiting = [planned for planned in plan.cells if planned.action == "run"]
    finished = [outcome for outcome in plan.stored.values() if _counts(outcome)]
    if not waiting or not finished:
        return None
    seconds, unlike = [], 0
    of_cells = _Paces(finished)
    for planned in waiting:
        expected, alike = of_cells.expected(planned.cell)
        unlike += not alike
        seconds.append(max(0.0, expected - of_cells.spared(planned)))
    runs = [outcome for outcome in plan.stored_references.values() if _counts(outcome)]
    of_runs = _Paces(runs or finished)
    seconds += [of_runs.expected(reference.cell)[0] for reference in plan.references]
    workers = max(1, (os.cpu_count() or 1) if workers is None else workers)
    size = len(waiting) * _mean(finished, lambda outcome: _size(plan.folder, plan.folder, outcome))
    if runs:
        size += len(plan.references) * _mean(runs, lambda o: _size(plan.folder, plan.folder / "references", o))
    return Estimate(max(max(seconds), sum(seconds) / workers), size, workers, len(finished), unlike)


def told(found: Estimate | None, plan: Plan) -> str:
    """One line; empty where nothing is to run."""
    if not plan.count("run"):
        return ""
    if found is None:
        return "time and disk are not known before a cell of this study has finished"
    workers = f"{found.workers} worker{'s' * (found.workers != 1)}"
    cells = f"{found.cells} finished cell{'s' * (found.cells != 1)}"
    text = f"about {_duration(found.seconds)} with {workers}, {_amount(found.size)}; from {cells}"
    return text + (f", which {found.unlike} of those to run are not like" if found.unlike else "")


def _counts(outcome: Outcome) -> bool:
    return outcome.status == "done" and "seconds" in outcome.facts and "train" in outcome.spec


def _alike(spec: Mapping[str, Any]) -> str:
    train = {name: [*value] if name == "budget" else value for name, value in spec["train"].items() if name != "steps"}
    return canonical({**spec, "seed": 0, "train": train, "measure": _settings(spec["measure"])})


def _settings(measure: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured; a shared reference's own training, which may be longer too, costs the cell nothing."""
    gradients = measure.get("gradients")
    if gradients:
        gradients = {n: v for n, v in gradients.items() if n not in ("reference", "checkpoints")}
        gradients["count"] = len(measure["gradients"].get("checkpoints") or ())
    return {**measure, "gradients": gradients}


class _Paces:
    """Seconds of finished cells, and for an optimiser step, or whatever their budget is in."""

    def __init__(self, finished: list[Outcome]) -> None:
        self._groups: dict[str, list[tuple[float, float]]] = {}
        self._units: dict[str, list[tuple[float, float]]] = {}
        self._kept: dict[str, float] = {}
        for outcome in finished:
            unit, amount = Train.model_validate(outcome.spec["train"]).length
            seconds = float(outcome.facts["seconds"])
            for pairs, name in ((self._groups, _alike(outcome.spec)), (self._units, unit)):
                pairs.setdefault(name, []).append((amount, seconds))
            self._kept[str(outcome.facts.get("kept"))] = seconds

    def expected(self, cell: Cell) -> tuple[float, bool]:
        """Seconds of one cell, and whether cells like it have finished."""
        group = self._groups.get(_alike(cell.spec()))
        unit, amount = cell.train.length
        pairs = group or self._units.get(unit) or [(amount, s) for group in self._groups.values() for _, s in group]
        same = [seconds for other, seconds in pairs if other == amount]
        if same:
            return sum(same) / len(same), group is not None
        total = sum(other for other, _ in pairs)
        return sum(seconds for _, seconds in pairs) * (amount / total if total else 1 / len(pairs)), group is not None

    def spared(self, planned: Planned) -> float:
        """Seconds of the shorter run that a cell goes on from."""
        return self._kept.get(planned.start, 0.0) if planned.start else 0.0


def _size(study: Path, folder: Path, outcome: Outcome) -> int:
    record = folder / "records" / outcome.key[:2] / f"{outcome.key}.{outcome.attempt}.parquet"
    paths = [record, study / "logs" / f"{outcome.key}.log", *checkpoints.folder(study, outcome.key).glob("*")]
    if outcome.facts.get("kept"):
        paths.append(kept.folder(study) / str(outcome.facts["kept"]))
    return sum(path.stat().st_size for path in paths if path.is_file())


def _mean(outcomes: Iterable[Outcome], of: Callable[[Outcome], float]) -> float:
    values = [of(outcome) for outcome in outcomes]
    return sum(values) / len(values)


def _duration(seconds: float) -> str:
    """The two largest units.

    >>> _duration(7805), _duration(59.7), _duration(3 * 86400 + 3600)
    ('2 h 10 min', '1 min', '3 d 1 h')
    """
    for (large, size), (small, unit) in ((("d", 86400), ("h", 3600)), (("h", 3600), ("min", 60))):
        count, rest = divmod(round(seconds / unit), size // unit)
        if count:
            return f"{count} {large} {rest} {small}" if rest else f"{count} {large}"
    return f"{round(seconds / 60)} min" if seconds >= 59.5 else f"{max(1, round(seconds))} s"


def _amount(size: float) -> str:
    """In the largest unit of which there is one.

    >>> _amount(35_200_000), _amount(812)
    ('35 MB', '1 kB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}" if size < 10 * scale else f"{size / scale:.0f} {unit}"
    return f"{max(1, round(size / 1000))} kB"
