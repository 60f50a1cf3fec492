"""The numbers that figures and tables show: each over the seeds of one combination, with where it comes from."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vbench.report import averages
from vbench.report.evidence import Evidence

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "COLUMNS",
    "SECONDS_PER_GRADIENT",
    "TRAINING_SECONDS",
    "MissingError",
    "Seed",
    "by_part",
    "measured",
    "numbers",
]

TRAINING_SECONDS: Final = "training_seconds"
"""Derived: step x ``seconds_per_step``, at every step that an ELBO was measured at."""

SECONDS_PER_GRADIENT: Final = "seconds_per_gradient"
"""Derived: ``work_normalized_variance`` over ``gradient_variance``, of any part."""

COLUMNS: Final = (
    *("combination", "panel", "series", "estimand", "statistic", "metric", "split", "part", "step"),
    *("value", "low", "high", "interval", "n_ok", "n_total", "stale", "unit", "seeds"),
)
"""Of a table of numbers: ``seeds`` holds a tuple of :class:`Seed` for those that were averaged."""

_STATISTICS: Final = {"mean": averages.mean, "geometric mean": averages.geometric}
_SINGLE: Final[dict[str, Callable[[float, float, int], averages.Average]]] = {
    "mean": averages.over_data,
    "geometric mean": averages.log_delta,
}


class MissingError(LookupError):
    """The study has no records that a figure could be drawn from; the message says which."""


class Seed(NamedTuple):
    """One seed's own measurement."""

    seed: int
    value: float


def numbers(
    evidence: Evidence, metric: str, split: str, part: str = "all", *, statistic: str = "mean", last: bool = False
) -> DataFrame:
    """One row per combination and step of one metric, over the seeds that finished; columns are ``COLUMNS``.

    ``n_ok`` counts the finished seeds whose value is finite, ``n_total`` all seeds asked for. A combination of which
    no seed has a finite value keeps its row, with NaN.

    Args:
        evidence: the study.
        metric, split, part: which records.
        statistic: ``mean``, or ``geometric mean`` for what is compared by its ratio.
        last: only the last step that a combination was measured at.

    Raises:
        MissingError: there is no such record of a cell that could run.
    """
    rows = _DERIVED[metric](evidence, part) if metric in _DERIVED else evidence.rows(metric, split, part)
    if rows.empty:
        raise MissingError(f"no {metric} ({split}, {part}) in the records{_why(evidence, metric)}")
    if last:
        rows = rows[rows["step"] == rows.groupby("combination")["step"].transform("max")]
    return _aggregate(evidence, rows, metric, split, part, statistic)


def measured(evidence: Evidence, wanted: Iterable[tuple[str, str, str]]) -> list[DataFrame]:
    """:func:`numbers` at the last step of each (metric, split, part) that there are records of."""
    found = []
    for metric, split, part in wanted:
        with contextlib.suppress(MissingError):
            found.append(numbers(evidence, metric, split, part, last=True))
    return found


def by_part(evidence: Evidence, metric: str, *, statistic: str = "mean", layers: bool = False) -> DataFrame:
    """:func:`numbers` of a gradient metric, for every part of the model that it was measured for.

    Args:
        evidence: the study.
        metric: which one.
        statistic: as there.
        layers: for every layer instead, at the last step alone.

    Raises:
        MissingError: as there.
    """
    import pandas as pd

    parts = evidence.layers(metric) if layers else evidence.parts(metric) or ["all"]
    if not parts:
        raise MissingError(f"no {metric} of layers in the records (gradients: {{layers: true}})")
    found = [numbers(evidence, metric, "train", part, statistic=statistic, last=layers) for part in parts]
    return pd.concat(found).sort_values(["panel", "estimand"], kind="stable", ignore_index=True)


def _training_seconds(evidence: Evidence, part: str) -> DataFrame:
    pace = evidence.rows("seconds_per_step", "train", part).groupby("cell")["value"].last()
    rows = evidence.rows("elbo", "valid", part)
    rows = rows[rows["cell"].isin(pace.index)]
    return rows.assign(value=rows["step"] * rows["cell"].map(pace), std_error=math.nan, unit="s")


def _seconds_per_gradient(evidence: Evidence, part: str) -> DataFrame:
    work = evidence.rows("work_normalized_variance", "train", part)
    variance = evidence.rows("gradient_variance", "train", part)
    both = work.merge(variance[["cell", "step", "value"]], on=["cell", "step"], suffixes=("", "_noise"))
    value = both["value"] / both["value_noise"].where(both["value_noise"] > 0)
    return both.drop(columns="value_noise").assign(value=value, std_error=math.nan, unit="s")


_DERIVED: Final[dict[str, Callable[[Evidence, str], DataFrame]]] = {
    TRAINING_SECONDS: _training_seconds,
    SECONDS_PER_GRADIENT: _seconds_per_gradient,
}


def _aggregate(evidence: Evidence, rows: DataFrame, metric: str, split: str, part: str, statistic: str) -> DataFrame:
    """One row per combination and step, from rows as :meth:`Evidence.rows` gives them."""
    import pandas as pd

    totals = evidence.asked["combination"].value_counts()
    same = {"metric": metric, "split": split, "part": part, "statistic": statistic}
    table = []
    # plain rows and not a frame for each group: a page has thousands of groups of a few rows
    ordered = rows.sort_values(["combination", "step"], kind="stable").itertuples(index=False)
    for (combination, step), found in itertools.groupby(ordered, lambda row: (row.combination, row.step)):
        group: list[Any] = list(found)
        done = [row for row in group if row.status == "done" and math.isfinite(row.value)]
        average = _average(done, statistic)
        table.append(
            {
                **({name: getattr(group[0], name) for name in ("panel", "series", "estimand", "unit")} | same),
                **{"combination": int(combination), "step": int(step)},
                **{"n_ok": len(done), "n_total": int(totals[combination])},
                **{"value": average.value, "low": average.low, "high": average.high, "interval": average.kind},
                "stale": any(row.stale != "" for row in group),
                "seeds": tuple(Seed(int(row.seed), float(row.value)) for row in done),
            }
        )
    table += [row | same for row in _lost(evidence, rows)]
    frame = pd.DataFrame(table, columns=list(COLUMNS))
    return frame.sort_values(["panel", "estimand"], kind="stable", ignore_index=True)


def _lost(evidence: Evidence, rows: DataFrame) -> list[dict[str, Any]]:
    """A row of nothing for each combination that no seed of has finished, in the panels that the others fill."""
    asked = evidence.asked[evidence.asked["panel"].isin(rows["panel"])]
    finished = asked.loc[asked["status"] == "done", "combination"]
    gone = asked[~asked["combination"].isin(finished) & ~asked["combination"].isin(rows["combination"])]
    if gone.empty:
        return []
    nothing = {"value": math.nan, "low": math.nan, "high": math.nan, "interval": "", "n_ok": 0, "seeds": ()}
    same = {"step": int(rows["step"].max()), "unit": rows["unit"].iloc[0], "stale": False} | nothing
    return [
        {name: group[name].iloc[0] for name in ("combination", "panel", "series", "estimand")}
        | {"n_total": len(group)}
        | same
        for _, group in gone.groupby("combination")
    ]


def _average(done: Sequence[Any], statistic: str) -> averages.Average:
    """Over the rows of seeds; of a single one, what its own record knows."""
    import pandas as pd

    values = [float(row.value) for row in done]
    if not values:
        return averages.Average(math.nan, math.nan, math.nan, "")
    if len(values) > 1:
        return _STATISTICS[statistic](values)
    (row,) = done
    return _SINGLE[statistic](values[0], float(row.std_error), 0 if pd.isna(row.n) else int(row.n))


def _why(evidence: Evidence, metric: str) -> str:
    """What the cells say about a metric that was not measured."""
    if "skipped_measures" not in evidence.asked:
        return ""
    kind = "gradients" if metric.startswith("gradient") else metric
    notes = (note for text in evidence.asked["skipped_measures"].dropna() for note in str(text).split("; "))
    found = sorted({note for note in notes if note.startswith(kind)})
    return f" ({'; '.join(found)})" if found else ""
