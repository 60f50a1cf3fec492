"""Log likelihood by the number of samples, what annealing adds, and how wide the bracket of simulated data is."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.curves import draw_curves
from vbench.report.figures.strips import draw_strips
from vbench.report.numbers import MissingError, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["GAP", "LADDER", "SHORTFALL"]

_RUNG = re.compile(r"log_likelihood\[k=(\d+)\]")


def _rungs(evidence: Evidence) -> DataFrame:
    import pandas as pd

    named: dict[int, str] = {}
    for metric in map(str, evidence.records["metric"].unique()):
        if rung := _RUNG.fullmatch(metric):
            named[int(rung[1])] = metric
    if not named:
        raise MissingError("no ladder of samples in the records (log_likelihood: {k: [1, 10, 100]})")
    found: list[DataFrame] = []
    for k in sorted(named):
        found.append(numbers(evidence, named[k], "test", last=True).assign(x=float(k)))
    table: DataFrame = pd.concat(found)
    return table.sort_values("panel", kind="stable", ignore_index=True)


def _draw_rungs(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    from matplotlib.ticker import LogLocator

    found = draw_curves(figure, evidence, table, columns, ylabel="log p(x), nats", xlabel="samples per datum")
    for axes in found:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10))
        axes.set_xlim(0.7 * table["x"].min(), 1.4 * table["x"].max())
    return found


def _numbers(evidence: Evidence, metric: str, split: str) -> DataFrame:
    return numbers(evidence, metric, split, last=True)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int, *, xlabel: str) -> list[Axes]:
    return draw_strips(figure, evidence, table, columns, xlabel=xlabel)


LADDER = Chart(
    "likelihood-ladder",
    "Log-likelihood by the number of samples",
    "log p(x) on test data by K importance samples, for each K: every one is a lower bound in expectation, and where "
    "the curve still rises at its end it is short of log p(x) by an unknown amount.",
    _rungs,
    _draw_rungs,
)
SHORTFALL = Chart(
    "likelihood-shortfall",
    "What importance sampling misses",
    "Annealed less importance-sampled log p(x) of the same test data: both are lower bounds, so that much is missing "
    "from the latter at least.",
    functools.partial(_numbers, metric="log_likelihood_shortfall", split="test"),
    functools.partial(_draw, xlabel="annealed less sampled, nats per datum"),
)
GAP = Chart(
    "likelihood-gap",
    "How far annealing can be off",
    "Upper less lower bound on log p(x) of data that the model made, by annealing there and back: no less than either "
    "bound's error, on average. It says nothing of data that the model would not make.",
    functools.partial(_numbers, metric="log_likelihood_gap", split="simulated"),
    functools.partial(_draw, xlabel="gap, nats per datum"),
)
