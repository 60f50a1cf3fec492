"""Held-out ELBO along training, against steps or seconds: every estimator by one ruler."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures.chart import Chart
from vbench.report.figures.curves import draw_curves
from vbench.report.numbers import TRAINING_SECONDS, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["BY_SECONDS", "BY_STEPS"]


def _by_steps(evidence: Evidence) -> DataFrame:
    return numbers(evidence, "elbo", "valid")


def _by_seconds(evidence: Evidence) -> DataFrame:
    import pandas as pd

    return pd.concat([_by_steps(evidence), numbers(evidence, TRAINING_SECONDS, "train")], ignore_index=True)


def _draw_steps(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    return draw_curves(figure, evidence, table, columns, ylabel="held-out ELBO, nats per datum")


def _draw_seconds(figure: Figure, evidence: Evidence, table: DataFrame, columns: int) -> list[Axes]:
    when = table[table["metric"] == TRAINING_SECONDS].set_index(["combination", "step"])["value"]
    shown = table[table["metric"] == "elbo"]
    places = zip(shown["combination"], shown["step"], strict=True)
    shown = shown.assign(x=[float(when.get(place, math.nan)) for place in places])
    return draw_curves(
        figure,
        evidence,
        shown[shown["x"].notna()],
        columns,
        ylabel="held-out ELBO, nats per datum",
        xlabel="training, s",
    )


BY_STEPS = Chart(
    "elbo-steps",
    "Held-out ELBO against steps",
    "ELBO on validation data along training. Every model is judged by the ELBO, whatever bound it was trained on.",
    _by_steps,
    _draw_steps,
)
BY_SECONDS = Chart(
    "elbo-seconds",
    "Held-out ELBO against seconds",
    "The same against time spent in training steps: step x the median seconds of a step, mean over seeds. Seeds that "
    "did not finish have no such time. Machines and load differ: see the environment of each cell.",
    _by_seconds,
    _draw_seconds,
)
