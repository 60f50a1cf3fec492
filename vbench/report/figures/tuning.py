"""Validation ELBO at the end of training against what the grid sweeps of training: how much each estimator is tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures import panels
from vbench.report.figures.chart import Chart
from vbench.report.figures.curves import draw_curves
from vbench.report.figures.strips import draw_strips
from vbench.report.numbers import MissingError, numbers
from vbench.report.tuning import sensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]

_YLABEL = "validation ELBO, nats per datum"


def _numbers(evidence: Evidence) -> DataFrame:
    if "train" not in evidence.varying:
        raise MissingError("one training setting: nothing is swept under train")
    return numbers(evidence, "elbo", "valid", last=True)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    merged, found = sensitivity(evidence)
    if found["x"].isna().any():
        return draw_strips(figure, evidence, table, columns, xlabel=_YLABEL)
    name = found["setting"].iloc[0].partition("=")[0]
    placed = draw_curves(figure, merged, found, columns, ylabel=_YLABEL, xlabel=name)
    for axes in placed:
        axes.set_autoscale_on(False)
        panels.fit(axes.xaxis, found["x"], [], log=bool((found["x"] > 0).all()))
    return placed


CHART = Chart(
    "tuning",
    "Sensitivity to the training setting",
    "ELBO on validation data at the last step, for every training setting of the grid. The best setting of each "
    "estimator, one at which all seeds finished, is the one that it is compared by at equal budget of tuning.",
    _numbers,
    _draw,
)
