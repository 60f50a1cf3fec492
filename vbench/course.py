"""How far training is, and what ends it: a number of steps, a budget, or no better measurement for a while.

Only a number of steps says beforehand where the end is; the rest is found out on the way, by what has been spent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from vbench.attempts import Row
from vbench.grid import Inner, Train
from vbench.types import Trait

__all__ = ["PATIENT", "Course", "no_better", "unmet"]

PATIENT: Final = "patience"


def unmet(settings: Train, offers: Collection[str]) -> str:
    """What these settings ask of the parts, by the traits that they offer together, and do not get; empty: nothing."""
    if settings.optimizer == "natural-gradient" and Trait.NATURAL not in offers:
        wanted = "an encoder that tells the Fisher information of its posteriors, like svi"
        return f"optimizer natural-gradient needs {wanted}"
    if settings.inner:
        part = settings.inner.part
        trained = {kind for kind in ("encoder", "decoder", "prior") if Trait.trained(kind) in offers}
        if part not in trained:
            return f"train.inner loops over the {part}, and the {part} has nothing to train"
        if trained == {part}:
            return f"train.inner loops over the {part}, and all but the {part} has nothing to train"
    return ""


class Course:
    """The course of one training.

    Args:
        settings: what ends it.
        batch: data of a step.
        seconds: tells those of training so far.

    Attributes:
        step: how many are done.
        updates: of an optimiser so far, those of inner loops among them.
        price: decoder evaluations per datum of an update, as they were last counted.
        spent: decoder evaluations so far, as the price was.
        ended_by: ``steps``, ``evaluations``, ``seconds`` or ``patience``; empty while training goes on.
    """

    def __init__(self, settings: Train, batch: int = 1, seconds: Callable[[], float] = lambda: 0.0) -> None:
        self.settings, self.batch, self.seconds = settings, batch, seconds
        self.step, self.updates = 0, 0
        self.price, self.spent = 0.0, 0.0
        self.ended_by = ""
        self._look()

    @property
    def share(self) -> float:
        """Of training, done: 0 at its start, 1 at its end."""
        budget = self.settings.budget
        if budget is None:
            return self.step / self.settings.steps if self.settings.steps else 1.0
        spent, most = (self.spent, budget.evaluations) if budget.evaluations else (self.seconds(), budget.seconds)
        return min(1.0, spent / most)  # type: ignore[operator]  # one of them is given

    @property
    def steps(self) -> int:
        """In all; of a budget as it looks by now."""
        return self.settings.steps if self.settings.budget is None else round(self.step / (self.share or 1.0))

    @property
    def inner(self) -> Inner | None:
        """The loop before the next step, if there is one."""
        inner = self.settings.inner
        if inner is None or self.settings.budget is None:
            return inner if self.step < self.settings.looped else None
        return inner if self.share < inner.until else None

    def advance(self, updates: int) -> None:
        """A step of so many updates is done."""
        self.step += 1
        self.updates += updates
        self.spent += updates * self.batch * self.price
        self._look()

    def _look(self) -> None:
        budget = self.settings.budget
        if budget is None:
            over, what = self.step >= self.settings.steps, "steps"
        else:
            over, what = self.share >= 1.0, "evaluations" if budget.evaluations else "seconds"
        self.ended_by = what if over else ""

    def notes(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, JSON."""
        return {"updates": self.updates, "price": self.price, "spent": self.spent}

    def restore(self, step: int, notes: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.step, self.updates = step, notes["updates"]
        self.price, self.spent = notes["price"], notes["spent"]
        self._look()


def no_better(rows: Sequence[Row], patience: int | None) -> bool:
    """Whether the last so many ELBOs of validation data are all no better than one before them."""
    values = [row.value for row in sorted(rows, key=lambda row: row.step) if _judged(row)]
    if patience is None or len(values) <= patience:
        return False
    before = [value for value in values[:-patience] if value == value]
    return bool(before) and not any(value > max(before) for value in values[-patience:])


def _judged(row: Row) -> bool:
    return (row.metric, row.split, row.part) == ("elbo", "valid", "all")
