"""Every pair of estimators of one estimand: the ratio of their gradient variances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vbench.report.comparison import ComparisonError, paired_ratios
from vbench.report.evidence import Evidence
from vbench.report.figures import panels
from vbench.report.figures.chart import Chart
from vbench.report.figures.style import INK
from vbench.report.intervals import ALPHA, holm
from vbench.report.numbers import COLUMNS, MissingError
from vbench.report.selection import LABELS, groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]

_LEGIBLE = 8  # estimators, so that a ratio fits its square
_DARK_SQUARE = 0.6  # of the colour scale's half


def _numbers(evidence: Evidence) -> DataFrame:
    import pandas as pd

    part = (evidence.parts("gradient_variance") or ["all"])[0]
    costs = ("gradient_variance", "work_normalized_variance", "function_evaluations")
    records = evidence.records[evidence.records["metric"].isin(costs)]
    found: list[dict[Any, Any]] = []
    for baseline in sorted(set(evidence.asked["estimator"].astype("str"))):
        try:
            table = paired_ratios(records, evidence.cells, "gradient_variance", baseline, part=part)
        except ComparisonError as error:
            raise MissingError(str(error)) from None
        found += _pairs(evidence, table[table["estimate"].notna() & (table["estimator"] != baseline)])
    if not found:
        raise MissingError("no two estimators of one estimand have gradient variances at a common seed")
    pairs = pd.DataFrame(found)
    once = pairs["combination"] < pairs["against"]  # each pair stands here in both directions
    corrected = dict(zip(pairs.loc[once, "pair"], holm(pairs.loc[once, "p"].tolist()), strict=True))
    pairs["p_holm"] = pairs["pair"].map(corrected)
    return pairs[[*COLUMNS, "baseline", "against", "p_holm"]]


def _pairs(evidence: Evidence, table: DataFrame) -> Iterator[dict[Any, Any]]:
    """One comparison's rows as numbers."""
    names = ["combination", "panel", "series", "estimand"]
    known = {
        (*group.labels.values(), group.settings, str(cell["estimator"])): cell
        for group in groups(evidence.cells, timed=False)
        for cell in group.cells[[*names, "estimator"]].to_dict("records")
    }
    for row in table.to_dict("records"):
        place = (*(row[label] for label in LABELS), row["settings"])
        mine, other = known.get((*place, row["estimator"])), known.get((*place, row["baseline"]))
        if mine and other and mine["estimand"] == other["estimand"]:
            yield {name: mine[name] for name in names} | {
                **{"baseline": other["series"], "against": other["combination"], "p": row["p"]},
                "pair": frozenset((mine["combination"], other["combination"])),
                **{"statistic": "paired ratio", "metric": row["metric"], "split": row["split"], "part": row["part"]},
                **{"step": row["step"], "value": row["estimate"], "low": row["low"], "high": row["high"]},
                "interval": "t over seeds, of logs" if row["basis"] == "seeds" else "Monte Carlo, one seed",
                **{"n_ok": row["seeds"], "n_total": row["n_total"], "unit": "1", "seeds": (), "stale": False},
            }


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    groups = dict(list(table.groupby(["panel", "estimand"], sort=True)))
    most = max(group["series"].nunique() for group in groups.values())
    titles = {key: panels.title(["panel", "estimand"], key) for key in groups}
    placed = panels.grid(figure, titles, min(columns, 2), height=1.4 + 0.3 * most)
    reach = max(0.3, *(abs(math.log10(value)) for value in table["value"] if value > 0))
    for key, axes in placed.items():
        _squares(axes, evidence, groups[key], reach)
    scale = figure.colorbar(axes.collections[0], ax=list(placed.values()), location="bottom", shrink=0.6, aspect=40)
    scale.set_label("log₁₀ of the ratio")
    return list(placed.values())


def _squares(axes: Axes, evidence: Evidence, group: DataFrame, reach: float) -> None:
    import numpy as np

    names = [name for name in evidence.series if name in {*group["series"], *group["baseline"]}]
    ratios = group.pivot_table(index="series", columns="baseline", values="value").reindex(index=names, columns=names)
    logs = np.log10(ratios.where(ratios > 0).to_numpy())
    few = len(names) <= _LEGIBLE
    short = [panels.label(name, 22) for name in names]
    places = [place + 0.5 for place in range(len(names))]
    axes.pcolormesh(logs, cmap="RdBu_r", vmin=-reach, vmax=reach, edgecolors=INK, linewidth=0.3)
    axes.set_xticks(places, short)
    axes.set_yticks(places, short)
    axes.invert_yaxis()
    axes.grid(visible=False)
    for _, row in group.iterrows() if few else ():
        place = names.index(row["baseline"]) + 0.5, names.index(row["series"]) + 0.5
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5}
        style["color"] = "white" if abs(math.log10(row["value"] or 1)) > _DARK_SQUARE * reach else "black"
        style["fontweight"] = "bold" if row["p_holm"] < ALPHA else "normal"
        axes.text(*place, panels.compact(float(f"{row['value']:.2g}")), **style)
    axes.set_xlabel("baseline")
    axes.set_ylabel("")
    axes.tick_params(axis="both", length=0)
    axes.tick_params(axis="x", rotation=30 if few else 90)


CHART = Chart(
    "paired-ratios",
    "Paired ratios of gradient variance",
    "The row's gradient variance over the column's at the last checkpoint, on the same batches and seeds, within one "
    "estimand; below 1 (blue) the row is quieter. Bold: told apart from 1 at 5% after Holm's correction over all "
    "pairs shown.",
    _numbers,
    _draw,
)
