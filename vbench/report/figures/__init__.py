"""Figures from records alone, one per file; ``vbench.plot`` offers them, the report embeds them."""

from __future__ import annotations

from vbench.report.figures import (
    bound,
    elbo,
    gradient_layers,
    gradient_snr,
    gradient_target,
    gradient_variance,
    ladder,
    log_likelihood,
    paired_ratios,
    pictures,
    rate_distortion,
    sample_quality,
    throughput,
    tuning,
    variance_cost,
    variance_outcome,
)
from vbench.report.figures.chart import Chart

__all__ = ["CHARTS"]

CHARTS: tuple[Chart, ...] = (
    elbo.BY_STEPS,
    elbo.BY_SECONDS,
    bound.CHART,
    log_likelihood.CHART,
    ladder.LADDER,
    ladder.SHORTFALL,
    ladder.GAP,
    rate_distortion.CHART,
    pictures.SAMPLES,
    pictures.RECONSTRUCTIONS,
    sample_quality.CHART,
    gradient_variance.CHART,
    gradient_layers.CHART,
    paired_ratios.CHART,
    variance_cost.CHART,
    gradient_snr.CHART,
    gradient_target.COSINE,
    gradient_target.ERROR,
    gradient_target.BIAS,
    gradient_target.NOISE,
    variance_outcome.CHART,
    tuning.CHART,
    throughput.CHART,
)
"""Every figure of a report, in its order."""
