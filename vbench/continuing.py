"""Which finished run a cell with more steps only goes on from, or why it begins anew."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vbench import kept
from vbench.grid import Cell, Choice, Train
from vbench.grid.parameters import canonical
from vbench.provenance import stale_reason
from vbench.records import Outcome

__all__ = ["Shorter", "trained_steps"]


class Shorter:
    """The finished runs of a study, by what their training and the measurements along it depend on.

    Args:
        study: its folder.
        outcomes: its cells.
    """

    def __init__(self, study: Path, outcomes: Iterable[Outcome]) -> None:
        self._study = study
        self._finished = [outcome for outcome in outcomes if outcome.status == "done" and trained_steps(outcome)]
        self._fewest = min(map(trained_steps, self._finished), default=0)

    @functools.cached_property
    def _courses(self) -> dict[str, list[Outcome]]:
        courses: dict[str, list[Outcome]] = {}
        for outcome in self._finished:
            courses.setdefault(_course(outcome.spec), []).append(outcome)
        return courses

    def start(
        self,
        cell: Cell,
        digest: Callable[[Choice], str],
        current: Callable[[tuple[Choice, ...]], Mapping[str, Any]],
    ) -> tuple[str, str]:
        """The file of the longest run that a cell only goes on from, empty without one, and what is to be said of it.

        Args:
            cell: one that is to run.
            digest: of a dataset; called only where there are shorter runs, as the other.
            current: provenance of components, as it would be now.
        """
        steps = cell.train.steps
        if not self._finished or steps <= self._fewest:
            return "", ""
        data, sources = digest(cell.dataset), current(tuple(cell.choices().values()))
        same = [o for o in self._courses.get(_course(cell.spec()), ()) if o.facts.get("data_digest") == data]
        shorter = sorted((o for o in same if trained_steps(o) < steps), key=trained_steps, reverse=True)
        why = ""
        for outcome in shorter:
            file, obstacle = self._state(cell, outcome, sources)
            if not obstacle:
                return file, f"goes on after step {trained_steps(outcome)}"
            why = why or f"begins anew, not after step {trained_steps(outcome)} of a shorter run: {obstacle}"
        return "", why

    def _state(self, cell: Cell, outcome: Outcome, sources: Mapping[str, Any]) -> tuple[str, str]:
        """The file that a shorter run has left, and why it cannot be used."""
        file = kept.file_of(self._study, outcome, "state")
        if file is None:
            return "", "its state was not kept (--keep state)"
        if outcome.facts.get("paced", True):
            return "", "its parts follow how much of training is done (batch.progress)"
        if not cell.train.goes_on_from(Train.model_validate(outcome.spec["train"])):
            return "", "what happens at its steps depends on how many there are"
        return file.name, "it is stale" if stale_reason(outcome.provenance, sources) else ""


def trained_steps(outcome: Outcome) -> int:
    """How many steps it was trained for; none where there is nothing to go on from."""
    return int(outcome.spec.get("train", {}).get("steps", 0))


def _course(spec: Mapping[str, Any]) -> str:
    """All that a cell's training and the measurements along it depend on, but for the number of steps."""
    measure, train = dict(spec["measure"]), dict(spec["train"])
    if (measure["gradients"] or {}).get("at") == "shared":  # measured apart, when training is over
        del measure["gradients"]
    train.pop("steps", None)
    return canonical({**spec, "measure": measure, "train": train})
