"""Gradient variance of each layer at the last checkpoint, within one estimand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.curves import draw_curves
from vbench.report.figures.panels import label
from vbench.report.numbers import by_part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]

_BY = ("panel", "estimand")


def _numbers(evidence: Evidence) -> DataFrame:
    """With ``x``, the place of a layer among those of its panel."""
    table = by_part(evidence, "gradient_variance", statistic="geometric mean", layers=True)
    names = {key: list(dict.fromkeys(group["part"])) for key, group in table.groupby("panel", sort=False)}
    x = [float(names[panel].index(part)) for panel, part in zip(table["panel"], table["part"], strict=True)]
    return table.assign(x=x)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    ylabel = "gradient variance, nats²"
    found = draw_curves(figure, evidence, table, min(columns, 2), by=_BY, ylabel=ylabel, xlabel="layer", log=True)
    drawn = (group for _, group in table.groupby(list(_BY), sort=False) if group["value"].notna().any())
    for axes, group in zip(found, drawn, strict=True):
        places = group.drop_duplicates("x")
        names = [label(name, 30) for name in places["part"]]
        axes.set_xticks(places["x"], names, rotation=60, rotation_mode="anchor", ha="right", fontsize=7)
    return found


CHART = Chart(
    "gradient-layers",
    "Gradient variance by layer",
    "Gradient variance at the last checkpoint, for the weights of each layer of the model apart: where in the nets an "
    "estimator's noise lands. A part's variance is the sum of its layers'.",
    _numbers,
    _draw,
)
