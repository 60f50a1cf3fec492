"""The small comparison table at the end of a run: one row per combination, seeds aggregated and counted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["AXES", "HEADLINES", "Headline", "Summary", "summarize"]

AXES: Final = ("dataset", "encoder", "decoder", "prior", "estimator", "train")


_WIDE: Final = 12  # characters: up to here a parameter fits into its column


@dataclass(frozen=True)
class Headline:
    """A figure worth a column: which records it is read from, at the last step that has it."""

    title: str
    metric: str
    split: str
    part: str
    digits: int | None  # decimals; None for three significant figures


HEADLINES: Final = (
    Headline("ELBO", "elbo", "test", "all", 2),
    Headline("log p(x)", "log_likelihood", "test", "all", 2),
    Headline("enc var", "gradient_variance", "train", "encoder", None),
    Headline("dec var", "gradient_variance", "train", "decoder", None),
    Headline("data/s", "examples_per_second", "train", "all", None),
)


@dataclass(frozen=True)
class Summary:
    """The table as text.

    Attributes:
        common: axes that have one value in the whole study, or whose values are shortened in the table, in full.
        columns, rows: the table.
        notes: what a reader must know of it.
    """

    common: dict[str, str]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def summarize(records: DataFrame, cells: DataFrame) -> Summary:
    """Aggregate a study's records over seeds.

    Means over the seeds that finished, with a 95% t-interval where there are two or more; ``ok`` counts them against
    all seeds asked for. Combinations of which no cell could run (skipped) are left to ``vbench plan``.

    Args:
        records, cells: the frames of :func:`vbench.load`.
    """
    asked = cells[cells["status"] != "skipped"]
    if asked.empty:
        return Summary({}, (), (), ("nothing ran: every cell was skipped",))
    varying = [axis for axis in AXES if len(asked[axis].unique()) > 1]
    common = {axis: str(asked[axis].iloc[0]) for axis in AXES if axis not in varying and str(asked[axis].iloc[0])}
    short = {axis: _short(asked[axis].astype(str).unique()) for axis in varying}
    common |= {axis: "; ".join(short[axis]) for axis in varying if list(short[axis]) != list(short[axis].values())}
    shown = [h for h in HEADLINES if not _of(records, h).empty]
    rows = []
    for _, group in asked.groupby(list(AXES), observed=True, sort=False):
        keys = group.loc[group["status"] == "done", "cell"]
        mine = records[records["cell"].isin(keys)]
        figures = [_figure(_of(mine, headline), headline) for headline in shown]
        names = (short[axis].get(str(group[axis].iloc[0]), "") for axis in varying)
        rows.append((*names, *figures, f"{len(keys)}/{len(group)}"))
    columns = (*varying, *(h.title for h in shown), "ok")
    return Summary(common, columns, tuple(rows), tuple(_notes(asked, shown)))


def _short(values: Iterable[str]) -> dict[str, str]:
    """Values by the names that tell them apart: parameters go where names alone do."""
    values = list(values)
    names = [value.partition("[")[0] for value in values]
    apart = len(set(names)) == len(names) and max(map(len, values)) > _WIDE
    return dict(zip(values, names if apart else values, strict=True))


def _of(records: DataFrame, headline: Headline) -> DataFrame:
    """One row per cell: the headline's record at its last step."""
    chosen = records[
        (records["metric"] == headline.metric)
        & (records["split"] == headline.split)
        & (records["part"] == headline.part)
    ]
    return chosen.sort_values("step").groupby("cell", observed=True).tail(1)


def _figure(chosen: DataFrame, headline: Headline) -> str:
    values = [float(value) for value in chosen["value"]]
    if not values:
        return "-"
    mean = sum(values) / len(values)
    if headline.digits is None:
        return f"{mean:.3g}" if abs(mean) < 1000 else f"{mean:.0f}"
    return f"{mean:.{headline.digits}f}{_interval(values, mean, headline.digits)}"


def _interval(values: Sequence[float], mean: float, digits: int) -> str:
    """Half the width of the 95% t-interval of the mean over seeds."""
    count = len(values)
    if count < 2:
        return ""
    from scipy import stats

    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count)
    return f" ±{float(stats.t.ppf(0.975, count - 1)) * spread:.{digits}f}"


def _notes(asked: DataFrame, shown: Sequence[Headline]) -> list[str]:
    notes = ["test data, nats per datum; mean over seeds, ± 95% t-interval; data/s while training"]
    if any(h.metric == "gradient_variance" for h in shown):
        notes.append("enc, dec var: variance of the minibatch gradient, at equal parameters only with at: shared")
        if len(asked["bound"].unique()) > 1:
            notes.append("gradient variances compare within one bound only")
    return notes


def table(summary: Summary) -> Any:
    """The summary as a rich table that fits 80 columns where it can."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    figures = len(summary.columns) - sum(column in AXES for column in summary.columns)
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for position, column in enumerate(summary.columns):
        numeric = position >= len(summary.columns) - figures
        result.add_column(
            column,
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
            min_width=None if numeric else 9,
        )
    for row in summary.rows:
        result.add_row(*map(Text, row))  # brackets are no markup
    return result
