"""Figures of a study as matplotlib axes, for notebooks and papers: the figures of ``vbench report``.

Each function takes a study's folder, or its two frames ``(records, cells)`` as :func:`vbench.load` gives them, filtered
as one likes::

    import vbench.plot
    axes = vbench.plot.elbo("results/quickstart")
    axes[0].figure.savefig("elbo.pdf")

Every function returns the list of axes, one per panel, and draws at most ``columns`` beside each other. It raises
``FileNotFoundError`` for a folder without results, and ``LookupError`` with the reason where the study lacks what the
figure needs. Error bars, open marks and crosses are those of the report: 95% intervals, means over fewer seeds than
were asked for, seeds that failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from pandas import DataFrame

    Study = str | Path | tuple[DataFrame, DataFrame]

__all__ = [
    "bound",
    "elbo",
    "gradient_bias",
    "gradient_cosine",
    "gradient_layers",
    "gradient_mse",
    "gradient_snr",
    "gradient_variance",
    "likelihood_gap",
    "likelihood_ladder",
    "likelihood_shortfall",
    "log_likelihood",
    "noise_share",
    "paired_ratios",
    "rate_distortion",
    "reconstructions",
    "sample_quality",
    "samples",
    "throughput",
    "tuning",
    "variance_cost",
    "variance_outcome",
]


def elbo(study: Study, *, against: Literal["steps", "seconds"] = "steps", columns: int = 3) -> list[Axes]:
    """Held-out ELBO (nats per datum) along training, against steps or seconds of training."""
    return _drawn(f"elbo-{against}", study, columns)


def bound(study: Study, *, columns: int = 3) -> list[Axes]:
    """Each estimator's own bound (nats per datum) on validation data; a panel per bound."""
    return _drawn("bound", study, columns)


def log_likelihood(study: Study, *, columns: int = 2) -> list[Axes]:
    """Held-out log-likelihood (nats per datum) at the last step."""
    return _drawn("log-likelihood", study, columns)


def likelihood_ladder(study: Study, *, columns: int = 3) -> list[Axes]:
    """Held-out log-likelihood (nats per datum) by the number of importance samples."""
    return _drawn("likelihood-ladder", study, columns)


def likelihood_shortfall(study: Study, *, columns: int = 2) -> list[Axes]:
    """Annealed less importance-sampled log-likelihood (nats per datum) of the same test data."""
    return _drawn("likelihood-shortfall", study, columns)


def likelihood_gap(study: Study, *, columns: int = 2) -> list[Axes]:
    """Upper less lower bound on the log-likelihood (nats per datum) of data that the model made."""
    return _drawn("likelihood-gap", study, columns)


def rate_distortion(study: Study, *, columns: int = 3) -> list[Axes]:
    """Distortion against rate (nats per datum) at the last step, with lines of equal ELBO."""
    return _drawn("rate-distortion", study, columns)


def samples(study: Study, *, columns: int = 3) -> list[Axes]:
    """Samples of each model (a study's folder alone has them), with its log-likelihood and their distance to data."""
    return _drawn("samples", study, columns)


def reconstructions(study: Study, *, columns: int = 3) -> list[Axes]:
    """Test data and their reconstructions by each model (a study's folder alone has them)."""
    return _drawn("reconstructions", study, columns)


def sample_quality(study: Study, *, columns: int = 3) -> list[Axes]:
    """Held-out log-likelihood (nats per datum) against what samples of the model are like."""
    return _drawn("sample-quality", study, columns)


def gradient_variance(study: Study, *, columns: int = 3) -> list[Axes]:
    """Gradient variance (squared nats) along checkpoints; a panel per estimand and part of the model."""
    return _drawn("gradient-variance", study, columns)


def gradient_layers(study: Study, *, columns: int = 2) -> list[Axes]:
    """Gradient variance (squared nats) of each layer at the last checkpoint; a panel per estimand."""
    return _drawn("gradient-layers", study, columns)


def gradient_snr(study: Study, *, columns: int = 3) -> list[Axes]:
    """Signal-to-noise ratio of the gradient along checkpoints; a panel per part of the model."""
    return _drawn("gradient-snr", study, columns)


def gradient_cosine(study: Study, *, columns: int = 3) -> list[Axes]:
    """Cosine of the gradient to a declared target along checkpoints."""
    return _drawn("gradient-cosine", study, columns)


def gradient_mse(study: Study, *, columns: int = 3) -> list[Axes]:
    """Squared error of the gradient (squared nats) to a declared target along checkpoints."""
    return _drawn("gradient-mse", study, columns)


def gradient_bias(study: Study, *, columns: int = 3) -> list[Axes]:
    """Bias of the gradient (nats) to a declared target along checkpoints."""
    return _drawn("gradient-bias", study, columns)


def noise_share(study: Study, *, columns: int = 3) -> list[Axes]:
    """Estimator noise over estimator noise plus the noise of choosing a minibatch, along checkpoints."""
    return _drawn("noise-share", study, columns)


def paired_ratios(study: Study, *, columns: int = 2) -> list[Axes]:
    """Ratios of gradient variance of every two estimators of one estimand, paired by seed, at the last checkpoint."""
    return _drawn("paired-ratios", study, columns)


def variance_cost(study: Study, *, columns: int = 2) -> list[Axes]:
    """Gradient variance against decoder evaluations and against seconds, with the Pareto front of each estimand."""
    return _drawn("variance-cost", study, columns)


def throughput(study: Study, *, columns: int = 2) -> list[Axes]:
    """Training data per second."""
    return _drawn("throughput", study, columns)


def tuning(study: Study, *, columns: int = 3) -> list[Axes]:
    """Validation ELBO (nats per datum) at the last step against what the grid sweeps of training."""
    return _drawn("tuning", study, columns)


def variance_outcome(study: Study, *, columns: int = 2) -> list[Axes]:
    """Test ELBO (nats per datum) of each estimator, tuned on validation data, against the noise of its gradient."""
    return _drawn("variance-outcome", study, columns)


def _drawn(name: str, study: Study, columns: int) -> list[Axes]:
    import matplotlib.pyplot as plt

    from vbench.report.figures import CHARTS

    charts = {chart.name: chart for chart in CHARTS}
    if name not in charts:
        raise ValueError(f"unknown figure {name!r}; one of {', '.join(charts)}")
    if columns < 1:
        raise ValueError(f"columns is at least 1, not {columns}")
    figure = plt.figure()
    try:
        return charts[name].drawn(figure, study, columns)
    except BaseException:
        plt.close(figure)
        raise
