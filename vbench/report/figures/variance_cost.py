"""Gradient variance against what one gradient costs, with the Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.planes import draw_planes, paired
from vbench.report.numbers import SECONDS_PER_GRADIENT, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]

_COSTS: Final = {
    "function_evaluations": "decoder evaluations per datum and gradient",
    SECONDS_PER_GRADIENT: "seconds per gradient",
}


def _numbers(evidence: Evidence) -> DataFrame:
    import pandas as pd

    part = (evidence.parts("gradient_variance") or ["all"])[0]
    found = [
        numbers(evidence, "gradient_variance", "train", part, statistic="geometric mean", last=True),
        numbers(evidence, "function_evaluations", "train", last=True),
        numbers(evidence, SECONDS_PER_GRADIENT, "train", part, last=True),
    ]
    return pd.concat(found, ignore_index=True)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    import pandas as pd

    costs = _COSTS.items()
    points = pd.concat([paired(table, cost, "gradient_variance").assign(xlabel=label) for cost, label in costs])
    points = points.sort_values(["panel", "estimand"], kind="stable")
    return draw_planes(
        figure,
        evidence,
        points,
        min(columns, len(_COSTS)),
        by=("panel", "estimand"),
        ylabel=f"gradient variance ({points['part'].iloc[0]}), nats²",
        log="xy",
        front=True,
    )


CHART = Chart(
    "variance-cost",
    "Gradient variance against cost",
    "At the last checkpoint, for the encoder (the whole model where it has no part of its own). Low and left is "
    "better; the line is the Pareto front within one estimand, of estimators whose seeds all finished.",
    _numbers,
    _draw,
)
