"""Held-out log likelihood by importance sampling, with its own Monte Carlo error."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from vbench.measure.accumulate import WeightSums
from vbench.measure.measurement import Measurement, mean_over_data
from vbench.measure.sampling import draw_in_chunks
from vbench.model import Model
from vbench.rng import Rng, derive
from vbench.types import Batch, Estimator

__all__ = ["bound_likelihood", "log_likelihood", "log_likelihoods"]


def log_likelihoods(
    model: Model, batches: Iterable[Batch], *, k: int, key: int, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    r"""Importance-sampled log p(x) of each datum, a lower bound on average.

    .. math:: \log \tfrac1K \sum_k p(x, z_k) / q(z_k | x), \qquad z_k \sim q(z | x)

    Args:
        model: one whose posterior draws have a proper weight.
        batches: data; values come in their order.
        k: K, samples per datum. Memory does not grow with it.
        key: the samples of batch b are a function of (key, b).
        chunk: samples at a time; None: 3.2 MB of decoder outputs. Another size makes other draws.

    Returns:
        values ``[n]``, nats, and effective sample sizes ``[n]``, 1 to K; both float64 on the CPU.

    Raises:
        ValueError: k below 1, no data, or a posterior without ``log_q``.

    Source: Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519; Kong
    (1992), A Note on Importance Sampling Using Standardized Weights, University of Chicago technical report
    348 (effective sample size).
    """
    if k < 1:
        raise ValueError(f"importance sampling needs at least 1 sample, not {k}")
    values, sizes = [], []
    # not inference mode: a Hamiltonian posterior differentiates inside draw
    with torch.no_grad():
        for number, batch in enumerate(batches):
            sums = WeightSums()
            for draw in draw_in_chunks(model.posterior(batch), batch, k, "likelihood", key, number, chunk):
                if draw.log_q is None:
                    raise ValueError("log likelihood needs draws with log_q, this posterior gives none")
                sums.add(model.log_joint(batch, draw.z) - draw.log_q)
            values.append(sums.log_mean.cpu())
            sizes.append(sums.ess.cpu())
    if not values:
        raise ValueError("log likelihood needs at least one batch")
    return torch.cat(values), torch.cat(sizes)


def log_likelihood(
    model: Model, batches: Iterable[Batch], *, k: int, key: int, chunk: int | None = None
) -> list[Measurement]:
    r"""Means over the data of :func:`log_likelihoods`.

    * ``log_likelihood``: nats; its error, sd over data / sqrt(n), covers data and Monte Carlo together.
    * ``log_likelihood_mc_error``: the Monte Carlo standard error of that mean alone, nats, by the delta
      method: :math:`1 / \mathrm{ESS} - 1 / K` is a datum's variance. NaN for K = 1; too small where a few
      weights dominate.
    * ``ess``: effective sample size, 1 to K.

    Args:
        model: as in :func:`log_likelihoods`, like all that follow.
        batches: data.
        k: K, samples per datum.
        key: of the samples.
        chunk: samples at a time.
    """
    values, ess = log_likelihoods(model, batches, k=k, key=key, chunk=chunk)
    spread = float((1 / ess - 1 / k).clamp(min=0).sum()) if k > 1 else math.nan
    n = len(values)
    return [
        mean_over_data("log_likelihood", "all", values, "nats"),
        Measurement("log_likelihood_mc_error", "all", math.sqrt(spread) / n, None, n, "nats"),
        mean_over_data("ess", "encoder", ess, "1"),
    ]


def bound_likelihood(model: Model, estimator: Estimator, batches: Iterable[Batch], *, key: int) -> list[Measurement]:
    """``log_likelihood`` by an estimator's lower bound, one evaluation of each datum; nats.

    Args:
        model: one that offers what the estimator needs.
        estimator: whose ``bound`` is a lower bound (a particle filter, where there are many steps).
        batches: data.
        key: the samples of batch b are a function of (key, b).
    """
    values = []
    with torch.no_grad():
        for number, batch in enumerate(batches):
            rng = Rng(derive("likelihood", key, number), batch.x.device)
            values.append(estimator(model, batch, rng).value.double().cpu())
    if not values:
        raise ValueError("log likelihood needs at least one batch")
    return [mean_over_data("log_likelihood", "all", torch.cat(values), "nats")]
