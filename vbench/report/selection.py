"""What of a study is compared: the metric, parts and baseline that were asked for, and the groups they stand in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vbench.report.metrics import COSTED, TIMED
from vbench.report.settings import data_of

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["LABELS", "ComparisonError", "Group", "Question", "ask", "groups", "is_layer", "unknown"]

LABELS: Final = ("dataset", "encoder", "decoder", "prior", "train")
_COSTS: Final = ("k", "evaluations", "seconds")
_SPLITS: Final = ("test", "valid", "train")
_BY: Final = ("part", "layer")


class ComparisonError(ValueError):
    """A comparison that cannot be made as asked; the message is one line."""


@dataclass(frozen=True)
class Question:
    """What is compared, every default filled in; ``step`` None: the last of each group."""

    metric: str
    baseline: str
    parts: tuple[str, ...]
    split: str
    step: int | None
    at: str
    unit: str

    @property
    def timed(self) -> bool:
        """Whether seconds are in it: they compare within one environment, and have no error of their own."""
        return self.at == "seconds" or self.metric in TIMED


@dataclass(frozen=True)
class Group:
    """Cells that differ in estimator and seed alone: only these are paired.

    Attributes:
        labels: of dataset, encoder, decoder, prior and train.
        settings: how the group was trained and measured, as far as groups differ in it.
        cells: their rows of the cells table.
    """

    labels: dict[str, str]
    settings: str
    cells: DataFrame


def ask(
    records: DataFrame,
    cells: DataFrame,
    metric: str,
    baseline: str,
    *,
    part: str | None,
    by: str | None,
    split: str | None,
    step: int | None,
    at: str,
) -> Question:
    """Check what was asked for against what was recorded.

    Raises:
        ComparisonError: what is not there, with the nearest name that is.
    """
    if by not in (None, *_BY):
        raise ComparisonError(unknown("grouping", by, _BY))
    if at not in _COSTS:
        raise ComparisonError(unknown("cost", at, _COSTS))
    if at != "k" and metric not in COSTED:
        raise ComparisonError(f"at {at}: only {' and '.join(COSTED)} compare at equal cost, not {metric}")
    found = _only(records, "metric", metric)
    names = list(map(str, found["part"].unique()))
    parts = sorted((name for name in names if not is_layer(name)), key=lambda name: (name != "all", name))
    if by == "layer" and not (parts := [name for name in names if is_layer(name)]):
        raise ComparisonError(f"no {metric} of layers in the records: measure.gradients takes layers: true")
    if part is not None:
        found = _only(found, "part", part)
    chosen = split if split is not None else next((s for s in _SPLITS if (found["split"] == s).any()), "")
    found = _only(found, "split", chosen)
    if step is not None:
        found = _only(found, "step", step)
    return Question(
        metric,
        _baseline(baseline, [str(e) for e in cells.loc[cells["status"] != "skipped", "estimator"].unique()]),
        tuple(parts) if by and part is None else (part or parts[0],),
        chosen,
        step,
        at,
        str(found["unit"].iloc[0]),
    )


def is_layer(part: str) -> bool:
    """Whether it is a layer of a part, ``encoder.net.0``."""
    return "." in part


def unknown(what: str, name: object, known: Iterable[object]) -> str:
    """One line: what is not there, the nearest name that is, and all of them where they are few."""
    names = [str(item) for item in known]
    short = {item.split("[")[0]: item for item in reversed(names)}  # rlo: rloo[k=4]
    near = difflib.get_close_matches(str(name), [*names, *short], n=1)
    hint = f"; did you mean {short.get(near[0], near[0])!r}?" if near else ""
    return f"no {what} {str(name)!r}{hint} (there {'is' if len(names) == 1 else 'are'} {', '.join(names) or 'none'})"


def _only(records: DataFrame, column: str, value: object) -> DataFrame:
    found = records[records[column] == value]
    if found.empty:
        raise ComparisonError(unknown(column, value, sorted(records[column].unique())))
    return found


def _baseline(name: str, estimators: list[str]) -> str:
    """The estimator of this canonical string, or the only one of this name."""
    if name in estimators:
        return name
    named = sorted(e for e in estimators if e.split("[")[0] == name)
    if len(named) > 1:
        raise ComparisonError(f"baseline {name!r} is ambiguous: say which of {', '.join(named)}")
    if not named:
        raise ComparisonError(unknown("estimator", name, sorted(estimators)))
    return named[0]


def groups(cells: DataFrame, *, timed: bool) -> list[Group]:
    """The groups of a study, in the order of their labels.

    Args:
        cells: the cells table; skipped cells are left to ``vbench plan``.
        timed: seconds are compared, and so only within one environment.
    """
    asked = cells[cells["status"] != "skipped"].assign(data=data_of(cells))
    how = [c for c in asked.columns if c.startswith(("train.", "measure."))]
    how += [c for c in asked.columns if timed and c.startswith("environment.")]
    # by the parameters, where they are known: one component may be written in two ways (iwae, iwae[k=5])
    what = [c for label in LABELS[:-1] for c in _columns(asked, label)]
    how = [*(how or ["train"]), "data"]
    identity = asked[what + how].astype("str").fillna("")
    told = [c for c in how if c != "train" and len(identity[c].unique()) > 1]
    found = []
    for _, rows in asked.groupby([identity[c] for c in identity.columns]):
        first, settled = rows.iloc[0], identity.loc[rows.index[0]]
        settings = ", ".join(f"{c} {settled[c]!s}" for c in told)
        found.append(Group({label: str(first[label]) for label in LABELS}, settings, rows))
    return sorted(found, key=lambda group: (*group.labels.values(), group.settings))


def _columns(cells: DataFrame, label: str) -> list[str]:
    return [c for c in cells.columns if c.startswith(f"{label}.")] or [label]
