"""What a quieter gradient buys: the outcome of training, tuned, against the estimator's noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.planes import draw_planes, paired
from vbench.report.numbers import numbers
from vbench.report.tuning import tuned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]

_NOISES: Final = {
    "noise_share": ("the estimator's share of a minibatch gradient's variance", ""),
    "gradient_relative_variance": ("variance over squared mean of the gradient", "x"),
}


def _numbers(evidence: Evidence) -> DataFrame:
    import pandas as pd

    chosen = tuned(evidence)
    part = (chosen.parts("noise_share") or ["all"])[0]
    found = [numbers(chosen, noise, "train", part, last=True) for noise in _NOISES]
    return pd.concat([numbers(chosen, "elbo", "test", last=True), *found], ignore_index=True)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    import pandas as pd

    points = [paired(table, noise, "elbo").assign(xlabel=label) for noise, (label, _) in _NOISES.items()]
    return draw_planes(
        figure,
        tuned(evidence),
        pd.concat(points).sort_values("panel", kind="stable"),
        min(columns, len(_NOISES)),
        by=("panel",),
        ylabel="test ELBO, nats per datum",
        log=dict(_NOISES.values()),
    )


CHART = Chart(
    "variance-outcome",
    "When does estimator variance matter?",
    "Test ELBO at the end of training against the noise of the encoder's gradient (of the whole model's where it has "
    "no part of its own) at the last checkpoint. Where training settings are swept, each estimator stands at its best "
    "on validation data. Every model is judged by the ELBO, whatever bound it was trained on.",
    _numbers,
    _draw,
)
