"""Held-out log-likelihood at the end of training."""

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
    return numbers(evidence, "log_likelihood", "test", last=True)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    return draw_strips(figure, evidence, table, columns, xlabel="log p(x), nats per datum")


CHART = Chart(
    "log-likelihood",
    "Held-out log-likelihood",
    "log p(x) on test data at the last step, estimated by importance samples: in expectation a lower bound, whose gap "
    "depends on the posterior and on the number of samples.",
    _numbers,
    _draw,
)
