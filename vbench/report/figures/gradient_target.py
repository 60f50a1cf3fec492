"""How far a gradient is from a declared target, where that was measured: cosine, mean squared error, bias."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.curves import draw_curves
from vbench.report.numbers import by_part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["BIAS", "COSINE", "ERROR", "NOISE"]


def _numbers(evidence: Evidence, metric: str, statistic: str) -> DataFrame:
    return by_part(evidence, metric, statistic=statistic)


def _draw(
    figure: Figure, evidence: Evidence, table: DataFrame, columns: int, *, ylabel: str, log: bool = False
) -> list[Axes]:
    beside = min(columns, table["part"].nunique())
    return draw_curves(figure, evidence, table, beside, by=("panel", "part"), ylabel=ylabel, log=log)


COSINE = Chart(
    "gradient-cosine",
    "Cosine to the target gradient",
    "Cosine between the mean gradient and the declared target; 1 is the target's direction. Comparable across bounds.",
    functools.partial(_numbers, metric="gradient_cosine", statistic="mean"),
    functools.partial(_draw, ylabel="cosine"),
)
ERROR = Chart(
    "gradient-mse",
    "Squared error to the target gradient",
    "Mean squared distance of one gradient draw to the declared target: its variance and the square of its bias.",
    functools.partial(_numbers, metric="gradient_mse", statistic="geometric mean"),
    functools.partial(_draw, ylabel="squared error, nats²", log=True),
)
BIAS = Chart(
    "gradient-bias",
    "Bias to the target gradient",
    "Distance of the mean gradient to the declared target.",
    functools.partial(_numbers, metric="gradient_bias", statistic="mean"),
    functools.partial(_draw, ylabel="bias, nats"),
)
NOISE = Chart(
    "noise-share",
    "The estimator's share of the gradient's noise",
    "Estimator noise over estimator noise plus the noise of choosing a minibatch: where it is near 0, a better "
    "estimator cannot help.",
    functools.partial(_numbers, metric="noise_share", statistic="mean"),
    functools.partial(_draw, ylabel="share of noise"),
)
