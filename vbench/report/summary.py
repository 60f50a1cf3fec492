"""The small comparison table at the end of a run: one row per combination, seeds aggregated and counted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vbench.report import trust
from vbench.report.settings import settings_of

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["AXES", "GROUP_FIELDS", "HEADLINES", "Headline", "Section", "Summary", "summarize", "tables"]

MODEL_AXES: Final = ("dataset", "encoder", "decoder", "prior")
AXES: Final = ("dataset", "encoder", "decoder", "prior", "estimator", "train")
GROUP_FIELDS: Final = (*AXES, "settings")
"""What tells one combination from another: its labels, and what one crossing was run under more than one of."""


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
    Headline("AIS", "log_likelihood_ais", "test", "all", 2),
    Headline("enc var", "gradient_variance", "train", "encoder", None),
    Headline("dec var", "gradient_variance", "train", "decoder", None),
    Headline("data/s", "examples_per_second", "train", "all", None),
)


@dataclass(frozen=True)
class Section:
    """Rows of one model on one dataset, run in one way, named by what tells it from the other sections."""

    axes: dict[str, str]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Summary:
    """The tables as text.

    Attributes:
        common: axes that have one value in the whole study, shown once.
        columns: of every section.
        sections: one for each dataset and model.
        notes: what a reader must know of it.
    """

    common: dict[str, str]
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
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
    asked = asked.assign(settings=settings_of(asked))
    varying = [axis for axis in GROUP_FIELDS if len(asked[axis].unique()) > 1]
    common = {axis: str(asked[axis].iloc[0]) for axis in AXES if axis not in varying and str(asked[axis].iloc[0])}
    models = [axis for axis in varying if axis in (*MODEL_AXES, "settings")]  # too long for a column
    names = [axis for axis in AXES if axis == "estimator" or (axis in varying and axis not in MODEL_AXES)]
    common.pop("estimator", None)
    shown = [h for h in HEADLINES if not _of(records, h).empty]
    sections: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for _, group in asked.groupby(list(GROUP_FIELDS), observed=True, sort=False):
        keys = group.loc[group["status"] == "done", "cell"]
        mine = records[records["cell"].isin(keys)]
        figures = (_figure(_of(mine, headline), headline) + _doubt(mine, headline) for headline in shown)
        row = (*(str(group[axis].iloc[0]) for axis in names), *figures, f"{len(keys)}/{len(group)}")
        sections.setdefault(tuple(str(group[axis].iloc[0]) for axis in models), []).append(row)
    return Summary(
        common,
        (*names, *(h.title for h in shown), "ok"),
        tuple(Section(dict(zip(models, key, strict=True)), tuple(rows)) for key, rows in sections.items()),
        tuple(_notes(asked, shown)) + tuple(_doubted(records, shown)),
    )


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


def _doubt(mine: DataFrame, headline: Headline) -> str:
    return trust.MARK if trust.doubts(mine, headline.metric, headline.split) else ""


def _doubted(records: DataFrame, shown: Sequence[Headline]) -> Iterator[str]:
    """What the mark stands for, where it stands anywhere."""
    for headline in shown:
        found = trust.doubts(records, headline.metric, headline.split)
        if found:
            yield f"{headline.title}{trust.MARK}: {trust.remark([*found.values()])} (largest share)"


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


def tables(summary: Summary) -> Iterator[Any]:
    """The sections as rich tables with the same columns, each after a line that names it; they fit 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = [row for section in summary.sections for row in section.rows]
    widths = [max(map(len, column)) for column in zip(summary.columns, *rows, strict=True)] if rows else []
    for section in summary.sections:
        if section.axes:
            yield Text(", ".join(f"{axis} {value}" for axis, value in section.axes.items()))
        found = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for column, width in zip(summary.columns, widths, strict=True):
            name = column in AXES
            found.add_column(
                column,
                justify="left" if name else "right",
                no_wrap=not name,
                overflow="fold",
                min_width=min(width, 12) if name else width,
                max_width=width,
            )
        for row in section.rows:
            found.add_row(*map(Text, row))  # brackets are no markup
        yield found
