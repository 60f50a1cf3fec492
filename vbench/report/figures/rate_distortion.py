"""The rate-distortion plane at the end of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.planes import draw_planes, paired
from vbench.report.figures.style import INK
from vbench.report.numbers import measured, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["CHART"]


def _numbers(evidence: Evidence) -> DataFrame:
    import pandas as pd

    found = [
        numbers(evidence, "rate", "test", "encoder", last=True),
        numbers(evidence, "distortion", "test", "decoder", last=True),
        *measured(evidence, [("log_likelihood", "test", "all")]),
    ]
    return pd.concat(found, ignore_index=True)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    points = paired(table, "rate", "distortion").assign(xlabel="rate, nats per datum")
    placed = draw_planes(figure, evidence, points, columns, by=("panel",), ylabel="distortion, nats per datum")
    shown = [panel for panel, group in points.groupby("panel", sort=False) if group["value"].notna().any()]
    for panel, axes in zip(shown, placed, strict=True):
        _equal_elbo(axes)
        _entropy(axes, table[(table["panel"] == panel) & (table["metric"] == "log_likelihood")])
    return placed


def _entropy(axes: Axes, likelihoods: DataFrame) -> None:
    """What the entropy of the data is at most: no model's rate and distortion add up to less than the entropy."""
    whole = likelihoods[likelihoods["n_ok"] == likelihoods["n_total"]]
    if whole["value"].notna().any():
        least = -float(whole["value"].max())
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        axes.axline((left, least - left), slope=-1, color=INK, linewidth=1.1, linestyle="--", alpha=0.7, zorder=1)
        axes.set(xlim=(left, right), ylim=(low, high))


def _equal_elbo(axes: Axes) -> None:
    """Lines of equal ELBO, which is minus rate minus distortion."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for total in MaxNLocator(6).tick_values(left + low, right + high):
        axes.axline((left, total - left), slope=-1, color=INK, linewidth=0.5, alpha=0.25, zorder=0)
    axes.set(xlim=(left, right), ylim=(low, high))


CHART = Chart(
    "rate-distortion",
    "Rate and distortion",
    "What the code costs against what it leaves unexplained, on test data at the last step. Thin diagonals join equal "
    "ELBO (minus rate minus distortion): low and left is better. Dashed: the best log-likelihood of the panel, below "
    "which the entropy of the data lies, and below the entropy no point. Source: Alemi et al. (2018), Fixing a Broken "
    "ELBO, arXiv:1711.00464.",
    _numbers,
    _draw,
)
