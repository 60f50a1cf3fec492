"""Sample quality against likelihood: neither tells the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.planes import draw_planes, paired
from vbench.report.numbers import MissingError, measured, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]

_RULERS: Final = {
    "sample_frechet": "Fréchet distance",
    "sample_mmd_squared": "squared MMD",
    "sample_parzen_log_likelihood": "Parzen log likelihood, nats",
}
_LIKELIHOODS: Final = ("log_likelihood", "elbo")


def _numbers(evidence: Evidence) -> DataFrame:
    import pandas as pd

    found = measured(evidence, [(metric, "simulated", "all") for metric in _RULERS])
    if not found:
        raise MissingError("no samples were measured (measure: {sample_quality: {}})")
    told = set(evidence.records["metric"])
    likelihood = next((metric for metric in _LIKELIHOODS if metric in told), _LIKELIHOODS[0])
    return pd.concat([numbers(evidence, likelihood, "test", last=True), *found], ignore_index=True)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    import pandas as pd

    likelihood = next(metric for metric in _LIKELIHOODS if metric in set(table["metric"]))
    points = [paired(table, metric, likelihood).assign(xlabel=label) for metric, label in _RULERS.items()]
    return draw_planes(
        figure,
        evidence,
        pd.concat(points).sort_values("panel", kind="stable"),
        columns,
        by=("panel",),
        ylabel="test log p(x), nats per datum" if likelihood == "log_likelihood" else "test ELBO, nats per datum",
    )


CHART = Chart(
    "sample-quality",
    "Likelihood and sample quality",
    "Held-out log p(x) (the ELBO where that was not estimated) against what the model's samples are like, at the last "
    "step. Fréchet distance (in the features of a small classifier) and discrepancy (in pixels) are good where low, "
    "Parzen-window likelihoods are said to be where high. Were it all one thing, points would fall on a line. Source: "
    "Theis et al. (2016), A Note on the Evaluation of Generative Models, arXiv:1511.01844.",
    _numbers,
    _draw,
)
