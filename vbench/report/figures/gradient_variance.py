"""Gradient variance along checkpoints, by part of the model, within one estimand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.curves import draw_curves
from vbench.report.numbers import by_part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]


def _numbers(evidence: Evidence) -> DataFrame:
    return by_part(evidence, "gradient_variance", statistic="geometric mean")


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    beside = min(columns, table["part"].nunique())
    by = ("panel", "estimand", "part")
    return draw_curves(figure, evidence, table, beside, by=by, ylabel="gradient variance, nats²", log=True)


CHART = Chart(
    "gradient-variance",
    "Gradient variance",
    "Trace of the covariance of the minibatch gradient over the estimator's own draws, the parameters and batches "
    "held fixed. One panel per estimand and part: variances of different bounds do not compare.",
    _numbers,
    _draw,
)
