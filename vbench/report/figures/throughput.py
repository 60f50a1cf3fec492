"""Training throughput."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.strips import draw_strips
from vbench.report.numbers import numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]


def _numbers(evidence: Evidence) -> DataFrame:
    return numbers(evidence, "examples_per_second", "train", statistic="geometric mean", last=True)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    return draw_strips(figure, evidence, table, columns, xlabel="training data per second", log=True)


CHART = Chart(
    "throughput",
    "Throughput",
    "Data per second while training. Cells share the machine with whatever else ran: an order of magnitude, no "
    "ranking, unless they ran one at a time.",
    _numbers,
    _draw,
)
