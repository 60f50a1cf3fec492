"""Held-out log likelihood by importance sampling: how it rises with K, and what speaks for believing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vbench.measure.accumulate import WeightSums
from vbench.measure.measurement import Measurement, mean_over_data
from vbench.measure.sampling import draw_in_chunks
from vbench.measure.weights import delta_variance, effective_size, jackknife, k_hat_limit, log_mean, pareto_k_hat
from vbench.model import Model
from vbench.rng import Rng, derive
from vbench.types import Batch, Estimator

__all__ = ["Rung", "bound_likelihood", "ladder", "log_likelihood", "log_likelihoods"]


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
    values, sizes = [], []
    for number, batch in enumerate(batches):
        sums = WeightSums()
        for log_w in _log_weights(model, batch, k, key, number, chunk):
            sums.add(log_w)
        values.append(sums.log_mean.cpu())
        sizes.append(sums.ess.cpu())
    _some(values)
    return torch.cat(values), torch.cat(sizes)


class Rung(NamedTuple):
    """Log likelihoods by k samples each, ``[n]`` float64 on the CPU, nats but for the effective sample size."""

    k: int
    values: Tensor
    mc_variance: Tensor  # of ``values``, by Monte Carlo alone
    jackknife: Tensor  # ``values`` less their bias, as far as it can be told
    ess: Tensor  # 1 to k


def ladder(
    model: Model, batches: Iterable[Batch], *, k: Sequence[int], key: int, chunk: int | None = None
) -> tuple[list[Rung], Tensor]:
    r"""Log likelihoods by each of several K, in one pass over as many samples as the largest of them.

    Rung K cuts the samples into blocks of K and averages :math:`\log \tfrac1K \sum_k w_k` over blocks: the same
    expectation as by one block, with less noise. The Monte Carlo variance is that between blocks, where there are
    two or more; of a single block it is :math:`1 / \mathrm{ESS} - 1 / K`, the delta method's, too small where a few
    weights dominate.

    Args:
        model: as in :func:`log_likelihoods`, like all that follow.
        batches: data.
        k: every K, in any order. Memory grows with the largest, eight bytes for each datum of a batch.
        key: of the samples.
        chunk: samples at a time.

    Returns:
        A rung for each K, smallest first, and Pareto k-hat of each datum's weights ``[n]``, by all samples.

    Raises:
        ValueError: as in :func:`log_likelihoods`, or no K.

    Source: Burda, Grosse & Salakhutdinov (2016) as there (the bound rises with K); Vehtari et al. (2024) and Nowozin
    (2018) as in ``vbench.measure.weights``.
    """
    sizes = sorted(set(k))
    if not sizes or sizes[0] < 1:
        raise ValueError(f"importance sampling needs at least 1 sample, not {sizes[0] if sizes else 'none'}")
    found: list[list[Rung]] = [[] for _ in sizes]
    shapes = []
    for number, batch in enumerate(batches):
        log_w = torch.cat([part.double() for part in _log_weights(model, batch, sizes[-1], key, number, chunk)])
        for rungs, size in zip(found, sizes, strict=True):
            rungs.append(_rung(log_w, size))
        shapes.append(pareto_k_hat(log_w).cpu())
    _some(shapes)
    joined = [Rung(rungs[0].k, *map(torch.cat, zip(*(rung[1:] for rung in rungs), strict=True))) for rungs in found]
    return joined, torch.cat(shapes)


def log_likelihood(
    model: Model, batches: Iterable[Batch], *, k: int | Sequence[int], key: int, chunk: int | None = None
) -> list[Measurement]:
    r"""Means over the data of :func:`ladder`: those of the largest K, and of each of several under ``NAME[k=K]``.

    * ``log_likelihood``: nats; its error, sd over data / sqrt(n), covers data and Monte Carlo together.
    * ``log_likelihood_mc_error``: the Monte Carlo standard error of that mean alone, nats; NaN for K = 1 alone.
    * ``log_likelihood_jackknife``: the same less its bias as far as the jackknife tells it, nats; from K = 2.
    * ``ess``: effective sample size, 1 to K.
    * ``k_hat_share``: share of the data whose Pareto k-hat is not below what K samples need
      (:func:`vbench.measure.weights.k_hat_limit`): for those neither value nor Monte Carlo error is to be trusted.
    * ``k_hat``: Pareto k-hat by all samples, once.

    Args:
        model: as in :func:`ladder`, like all that follow.
        batches: data.
        k: one K, or several.
        key: of the samples.
        chunk: samples at a time.
    """
    rungs, k_hat = ladder(model, batches, k=[k] if isinstance(k, int) else k, key=key, chunk=chunk)
    found = _measured(rungs[-1], k_hat)
    for rung in rungs if len(rungs) > 1 else ():
        found += [m._replace(metric=f"{m.metric}[k={rung.k}]", values=None) for m in _measured(rung, k_hat)]
    told = bool(k_hat.isfinite().any())  # too few samples have no tail
    return [*found, mean_over_data("k_hat", "encoder", k_hat, "1")] if told else found


def _measured(rung: Rung, k_hat: Tensor) -> list[Measurement]:
    n = len(rung.values)
    doubted = ~(k_hat < k_hat_limit(rung.k))
    found = [
        mean_over_data("log_likelihood", "all", rung.values, "nats", keep=True),
        Measurement("log_likelihood_mc_error", "all", float(rung.mc_variance.sum().sqrt()) / n, None, n, "nats"),
        mean_over_data("ess", "encoder", rung.ess, "1"),
        mean_over_data("k_hat_share", "encoder", doubted.double(), "1"),
    ]
    if rung.k > 1:
        found.append(mean_over_data("log_likelihood_jackknife", "all", rung.jackknife, "nats"))
    return found


def _rung(log_w: Tensor, k: int) -> Rung:
    """Of the weights of one batch ``[K, B]``, in blocks of k."""
    count = len(log_w) // k
    blocks = log_w[: count * k].reshape(count, k, -1).transpose(0, 1)  # [k, count, B]
    values, ess = log_mean(blocks), effective_size(blocks)
    variance = values.var(0) / count if count > 1 else delta_variance(ess[0], k)
    return Rung(k, *(each.cpu() for each in (values.mean(0), variance, jackknife(blocks).mean(0), ess.mean(0))))


@torch.no_grad()  # not inference mode: a Hamiltonian posterior differentiates inside draw
def _log_weights(model: Model, batch: Batch, k: int, key: int, number: int, chunk: int | None) -> Iterator[Tensor]:
    """Log weights of k samples ``[chunk, B]``, chunk by chunk."""
    if k < 1:
        raise ValueError(f"importance sampling needs at least 1 sample, not {k}")
    for draw in draw_in_chunks(model.posterior(batch), batch, k, "likelihood", key, number, chunk):
        if draw.log_q is None:
            raise ValueError("log likelihood needs draws with log_q, this posterior gives none")
        yield model.log_joint(batch, draw.z) - draw.log_q


def _some(values: Sequence[Tensor]) -> None:
    if not values:
        raise ValueError("log likelihood needs at least one batch")


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
    _some(values)
    return [mean_over_data("log_likelihood", "all", torch.cat(values), "nats", keep=True)]
