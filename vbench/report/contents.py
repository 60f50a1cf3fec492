"""What a page holds, before any markup: numbered rows of every figure, the summary, the cells."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vbench.report import trust
from vbench.report.evidence import Evidence, plain
from vbench.report.figures import CHARTS, panels
from vbench.report.figures.chart import Chart
from vbench.report.numbers import MissingError, numbers
from vbench.report.published import PublishedError, matching, read_published
from vbench.report.summary import AXES, GROUP_FIELDS, HEADLINES, MODEL_AXES, Headline

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "NUMBER_FIELDS",
    "PUBLISHED_FIELDS",
    "SOURCE_FIELDS",
    "Contents",
    "Shown",
    "alt_text",
    "contents",
    "doubted",
    "parameters",
    "printed",
    "reads",
]

SOURCE_FIELDS: Final = ("figure", "statistic", "metric", "split", "part", "step", "combination", "against")
"""Where a number comes from: with its combination's axes this says which records, and what was done with them."""

PUBLISHED_FIELDS: Final = ("source", "metric", "split", "value", "std_error", "unit")
"""What a page says of a published value, besides its setting and the cells beside it."""

NUMBER_FIELDS: Final = ("value", "low", "high", "n_ok", "n_total")

_CELL_COLUMNS: Final = (
    *(
        "estimator",
        "train",
        "seed",
        "status",
        "reason",
        *MODEL_AXES,
        "settings",
        "estimand",
        "judged",
        "stale",
        "seconds",
        "attempt",
    ),
    *("started", "version", "plugins", "environment.device", "environment.cpu", "environment.torch", "code", "cell"),
)
_K_HAT: Final = Headline("k-hat above limit", "k_hat_share", "test", "encoder", 2)  # why a log p(x) is in doubt
_NUMERIC: Final = ("seed", "seconds", "attempt")
_WORDS: Final = {"panel": "model", "series": "estimator", "baseline": "baseline", "metric": "metric", "part": "part"}


@dataclass(frozen=True)
class Shown:
    """A figure that the study has numbers for.

    Attributes:
        chart: what it is.
        table: its numbers.
        rows: the same, as a page prints them.
        columns: which of a row's texts are worth a column.
    """

    chart: Chart
    table: DataFrame
    rows: list[dict[str, Any]]
    columns: list[str]


@dataclass
class Contents:
    """Everything that a page shows.

    Attributes:
        evidence: the study.
        shown: its figures.
        missing: titles of figures that it has no records for, with the reason.
        summary: one mapping per combination.
        published: one mapping per published value, with the numbers that stand beside it.
        numbers: every number, in the order of its ``id``; what a script reads.
        cells: rows of the cells table as texts.
    """

    evidence: Evidence
    shown: list[Shown] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    summary: list[dict[str, Any]] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    cells: list[dict[str, str]] = field(default_factory=list)

    @functools.cached_property
    def groups(self) -> list[dict[str, str]]:
        """The axes and settings of each combination, by its number."""
        first = self.evidence.cells.drop_duplicates("combination").sort_values("combination")
        return [{name: str(row[name]) for name in GROUP_FIELDS} for row in first.to_dict("records")]

    @property
    def cell_columns(self) -> list[str]:
        """Columns of the cells table that say anything; what all cells share stands above the page."""
        said = (name for name in _CELL_COLUMNS if name not in self.evidence.common)
        return [name for name in said if any(cell[name] for cell in self.cells)]

    @property
    def numeric(self) -> tuple[str, ...]:
        """Those that hold numbers."""
        return _NUMERIC


def contents(evidence: Evidence, step: Callable[[str], None] = lambda what: None) -> Contents:
    """Gather what a page of this study shows.

    Args:
        evidence: the study.
        step: called with what is being worked on.
    """
    found = Contents(evidence)
    _summarise(found)
    try:
        _published(found)
    except PublishedError as reason:
        found.missing.append(("Published values", str(reason)))
    for chart in CHARTS:
        step(f"computing {chart.title}")
        try:
            table = chart.numbers(evidence)
        except MissingError as reason:
            found.missing.append((chart.title, str(reason)))
            continue
        rows = _numbered(found, chart.name, table)
        columns = [word for name, word in _WORDS.items() if name in table and len(table[name].unique()) > 1]
        found.shown.append(Shown(chart, table, rows, columns))
    found.cells = [_cell(dict(cell)) for cell in evidence.cells.to_dict("records")]
    found.cells.sort(key=lambda cell: (cell["status"] == "skipped", *(cell[a] for a in AXES), cell["seed"].zfill(9)))
    return found


def _numbered(found: Contents, figure: str, table: DataFrame) -> list[dict[str, Any]]:
    """Rows of a table, each with its id; texts under the page's own words."""
    rows = []
    for given in table.to_dict("records"):
        row = {"id": len(found.numbers), "figure": figure, "against": given.get("against")}
        row |= {name: given[name] for name in ("statistic", "metric", "split", "part", "unit", "interval", "stale")}
        row |= {name: int(given[name]) for name in ("step", "combination", "n_ok", "n_total")}
        row["against"] = None if row["against"] is None else int(row["against"])
        row |= {name: _finite(given[name]) for name in ("value", "low", "high")}
        found.numbers.append({name: row[name] for name in (*SOURCE_FIELDS, *NUMBER_FIELDS)})
        rows.append(row | {word: plain(given[name]) for name, word in _WORDS.items() if name in given})
    return rows


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _summarise(found: Contents) -> None:
    """Headlines that compare across bounds: variances do not."""
    asked, looks = found.evidence.asked, panels.looks(found.evidence)
    columns = []
    for headline in (*HEADLINES, _K_HAT):
        if headline.metric.startswith("gradient"):
            continue
        try:
            statistic = "mean" if headline.digits else "geometric mean"
            where = (headline.metric, headline.split, headline.part)
            table = numbers(found.evidence, *where, statistic=statistic, last=True)
        except MissingError:
            continue
        rows = {row["combination"]: row for row in _numbered(found, "summary", table)}
        columns.append((headline.title, rows))
    for combination, mine in asked.groupby("combination"):
        first = mine.iloc[0]
        found.summary.append(
            {
                **{"panel": first["panel"], "series": first["series"], "colour": looks[first["series"]].colour},
                **{"asked": len(mine), "done": int((mine["status"] == "done").sum())},
                **{"stale": bool((mine["stale"] != "").any()), "titles": [title for title, _ in columns]},
                "rows": [rows.get(combination) for _, rows in columns],
            }
        )
    order = {name: place for place, name in enumerate(found.evidence.series)}
    found.summary.sort(key=lambda line: (line["panel"], order[line["series"]]))


def _published(found: Contents) -> None:
    """Each published value beside ours: the last step's mean of the cells that its row asks for.

    Raises:
        PublishedError: the file cannot be used.
    """
    evidence = found.evidence
    known: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for value in read_published(evidence.published) if evidence.published is not None else []:
        combinations, why = matching(value, evidence.asked)
        mine = known.setdefault((value.metric, value.split), {})
        mine |= _ours(found, value.metric, value.split, [each for each in combinations if each not in mine])
        ours = [mine[combination] for combination in combinations if combination in mine]
        told = {name: getattr(value, name) for name in PUBLISHED_FIELDS}
        asked = " ".join(f"{name}={text}" for name, text in (value.cells or {}).items())
        setting = "; ".join(f"{name} {text}" for name, text in value.setting.items())
        why = why or ("" if ours else "not measured here")
        found.published.append({**told, "setting": setting, "cells": asked, "why": why, "ours": ours})


def _ours(found: Contents, metric: str, split: str, combinations: list[int]) -> dict[int, dict[str, Any]]:
    """Numbered rows of these combinations, as far as they were measured."""
    if not combinations:
        return {}
    try:
        table = numbers(found.evidence, metric, split, last=True)
    except MissingError:
        return {}
    rows = _numbered(found, "published", table[table["combination"].isin(combinations)])
    return {row["combination"]: row for row in rows}


def _cell(cell: Mapping[Any, Any]) -> dict[str, str]:
    return {name: _text(cell.get(name)) for name in _CELL_COLUMNS}


def _text(value: Any) -> str:
    import pandas as pd

    if value is None or pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:g}" if value.is_integer() else f"{value:.1f}"
    return plain(value)


def printed(value: float | None, row: Mapping[str, Any], name: str) -> str:
    """A number as a reader sees it: nats to a hundredth, the rest to three figures, NaN as a dash."""
    if value is None:
        return "-"
    if name in ("n_ok", "n_total", "step"):
        return str(int(value))
    if row["statistic"] == "mean" and row["unit"] == "nats" and abs(value) < 1e6:
        return f"{value:.2f}"
    return panels.compact(value)


def alt_text(shown: Shown, evidence: Evidence) -> str:
    """What a figure shows, for who does not see it."""
    counts = _counts(shown.table, evidence)
    return (
        f"{shown.chart.title}. {shown.chart.shows} Seeds finished of those asked for: {'; '.join(counts)}. "
        "Its numbers are in the table below."
    )


def doubted(table: DataFrame, evidence: Evidence) -> str:
    """Which log likelihoods of a figure are not to be trusted, and for what share of the data."""
    cells = evidence.asked[evidence.asked["combination"].isin(table["combination"])]
    where = table[["metric", "split"]].drop_duplicates().itertuples(index=False)
    found: dict[str, float] = {}
    for metric, split in where:
        shares = trust.doubts(evidence.records, metric, split)
        named = zip(cells["cell"], cells["series"], strict=True)
        for name, share in ((name, shares[cell]) for cell, name in named if cell in shares):
            found[f"{name} {metric}"] = max(share, found.get(f"{name} {metric}", 0.0))
    if not found:
        return ""
    names = "; ".join(f"{name} ({share:.0%})" for name, share in sorted(found.items()))
    return f"Not to be trusted, since Pareto k-hat is above its limit for so many of the data: {names}."


def _counts(table: DataFrame, evidence: Evidence) -> list[str]:
    asked = evidence.asked
    names = set(table["series"])
    mine = [(name, asked[asked["series"] == name]) for name in evidence.series if name in names]
    return [f"{name} {int((cells['status'] == 'done').sum())}/{len(cells)}" for name, cells in mine]


def reads(table: DataFrame) -> str:
    """How to read a figure's marks: which intervals, what is averaged over survivors, what is stale."""
    kinds = " and ".join(kind for kind in dict.fromkeys(table["interval"]) if kind)
    if "baseline" in table:
        few = (table["n_ok"] < table["n_total"]).any()
        some = " Some pairs share fewer seeds than were asked for: the table counts them." if few else ""
        return f"Ratios are geometric means over common seeds; intervals (95%, {kinds}) are in the table.{some}"
    texts = [f"Bars: 95% intervals ({kinds})." if kinds else "No interval is known."]
    words = {"mean": "means", "geometric mean": "geometric means"}
    averages = " and ".join(words[name] for name in table["statistic"].unique())
    texts.append(f"Marks are {averages} over the seeds that finished, dots are single seeds.")
    for what, those in (
        ("Open marks: fewer seeds than asked for", (table["n_ok"] < table["n_total"]) & (table["n_ok"] > 0)),
        ("No finite value somewhere", table["n_ok"] == 0),
        ("Stale", table["stale"].astype(bool) & (not table["stale"].all())),
    ):
        names = sorted(set(table.loc[those, "series"]))
        texts += [f"{what}: {', '.join(names)}."] if names else []
    return " ".join(texts)


def parameters(table: DataFrame, evidence: Evidence) -> str:
    """At which parameters gradients were measured: it decides what a comparison of them says."""
    if not table["metric"].str.startswith("gradient").any() or "measure.gradients.at" not in evidence.asked:
        return ""
    mine = evidence.asked[evidence.asked["combination"].isin(table["combination"])]
    places = set(mine["measure.gradients.at"].dropna())
    if places == {"shared"}:
        return "All were measured at the same parameters, those of a reference run."
    return "Measured along each estimator's own training: their parameters differ." if "own" in places else ""
