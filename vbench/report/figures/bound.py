"""Each estimator's own bound along training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.curves import draw_curves
from vbench.report.numbers import numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]


def _numbers(evidence: Evidence) -> DataFrame:
    return numbers(evidence, "bound", "valid")


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    return draw_curves(figure, evidence, table, columns, by=("panel", "estimand"), ylabel="own bound, nats per datum")


CHART = Chart(
    "bound",
    "Each estimator's own bound",
    "What each estimator itself maximises, on validation data along training; one panel per bound, since different "
    "bounds do not compare.",
    _numbers,
    _draw,
)
