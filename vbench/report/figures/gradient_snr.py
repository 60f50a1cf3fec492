"""Signal-to-noise ratio of the gradient along checkpoints."""

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
    return by_part(evidence, "gradient_snr", statistic="geometric mean")


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    beside = min(columns, table["part"].nunique())
    return draw_curves(figure, evidence, table, beside, by=("panel", "part"), ylabel="gradient SNR", log=True)


CHART = Chart(
    "gradient-snr",
    "Signal-to-noise ratio of the gradient",
    "Root of the squared mean gradient over its variance: comparable across bounds. A seed whose mean is not above "
    "its own noise is not resolved: it is left out of the mean, and counted.",
    _numbers,
    _draw,
)
