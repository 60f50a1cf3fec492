"""What importance weights tell of the logarithm of their mean: its value, its error, and whether to believe either."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["MODEST", "delta_variance", "effective_size", "jackknife", "k_hat_limit", "log_mean", "pareto_k_hat"]

MODEST: int = 5  # largest weights below which no tail can be fitted


def log_mean(log_w: Tensor) -> Tensor:
    r""":math:`\log \frac1K \sum_k w_k`, ``[K, ...] -> [...]``, nats."""
    return log_w.logsumexp(0) - math.log(log_w.shape[0])


def effective_size(log_w: Tensor) -> Tensor:
    r"""Effective sample size :math:`(\sum w)^2 / \sum w^2`, ``[K, ...] -> [...]``, 1 to K; NaN where all w are zero.

    Source: Kong (1992), A Note on Importance Sampling Using Standardized Weights, University of Chicago technical
    report 348.
    """
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()


def delta_variance(ess: Tensor, k: int) -> Tensor:
    r"""Monte Carlo variance of the log mean of k weights by the delta method, :math:`1 / \mathrm{ESS} - 1 / K`.

    Too small where a few weights dominate; NaN for one weight.
    """
    return (1 / ess - 1 / k).clamp(min=0) if k > 1 else torch.full_like(ess, math.nan)


def jackknife(log_w: Tensor) -> Tensor:
    r"""Log mean weight less what the jackknife thinks its bias is, ``[K, ...] -> [...]``, nats; NaN for one weight.

    .. math:: K \log \frac1K \sum_k w_k - \frac{K - 1}{K} \sum_i \log \frac{1}{K - 1} \sum_{k \ne i} w_k

    Its bias is :math:`O(K^{-2})`, that of the log mean :math:`O(K^{-1})`, where the weights have the moments. It is no
    bound, and where a few weights dominate it takes away next to nothing of the bias.

    Source: Nowozin (2018), Debiasing Evidence Approximations: On Importance-weighted Autoencoders and Jackknife
    Variational Inference, ICLR (m = 1).
    """
    k = log_w.shape[0]
    if k == 1:
        return torch.full_like(log_w[0], math.nan)
    total = log_w.logsumexp(0)
    top = log_w.argmax(0, keepdim=True)
    share = (log_w - total).exp().scatter(0, top, 0)
    # the rest of the largest is summed anew: taken from the total it would be lost in rounding
    rest = log_w.scatter(0, top, -math.inf).logsumexp(0)
    others = torch.log1p(-share).sum(0) + (k - 1) * total + rest  # each without one, the largest in its own right
    return k * log_mean(log_w) - (k - 1) * (others / k - math.log(k - 1))


def k_hat_limit(k: int) -> float:
    r"""Below which Pareto k-hat K weights give a log mean whose error can be told: :math:`\min(1 - 1/\log_{10} K, .7)`.

    Source: Vehtari, Simpson, Gelman, Yao & Gabry (2024), Pareto Smoothed Importance Sampling, JMLR 25(72),
    arXiv:1507.02646.
    """
    return min(1 - 1 / math.log10(k), 0.7) if k > 1 else -math.inf


def pareto_k_hat(log_w: Tensor) -> Tensor:
    r"""Shape of the generalised Pareto distribution that the largest weights follow, ``[K, B] -> [B]``.

    The largest :math:`\lceil \min(K / 5, 3 \sqrt K) \rceil` weights in excess of the next one are fitted. Weights
    have 1 / k moments: from .5 on no variance, from 1 on no mean, and then K says nothing. Zero where the largest
    weights are all equal (there is no tail); infinite where they are fewer than five.

    Source: Vehtari et al. (2024) as in :func:`k_hat_limit`; Zhang & Stephens (2009), A New and Efficient Estimation
    Method for the Generalized Pareto Distribution, doi:10.1198/tech.2009.08017 (the fit).
    """
    k = log_w.shape[0]
    size = math.ceil(min(k / 5, 3 * math.sqrt(k)))
    if size < MODEST:
        return torch.full_like(log_w[0], math.inf)
    largest = log_w.double().topk(size + 1, dim=0).values.flip(0)
    weights = (largest - largest[-1:]).exp()
    excess = weights[1:] - weights[:1]
    flat = excess[-1] <= 1e-12
    shape = _fitted(torch.where(flat, torch.ones_like(excess), excess))
    return torch.where(flat, 0.0, shape).to(log_w.dtype)


def _fitted(x: Tensor) -> Tensor:
    """Zhang and Stephens' estimate for sorted excesses ``[M, B]``, drawn towards .5 as by ten more of them: ``[B]``."""
    size = len(x)
    count = 30 + int(math.sqrt(size))
    spread = 1 - (count / (torch.arange(count, dtype=x.dtype, device=x.device) + 0.5)).sqrt()
    quartile = x[int(size / 4 + 0.5) - 1]
    quartile = torch.where(quartile > 0, quartile, x.mean(0))  # equal weights, of discrete latents
    theta = 1 / x[-1] + spread[:, None] / (3 * quartile)  # [count, B]
    shapes = torch.stack([torch.log1p(-each * x).mean(0) for each in theta])
    profile = size * ((-theta / shapes).log() - shapes - 1)
    best = (profile.softmax(0) * theta).sum(0)
    return (size * torch.log1p(-best * x).mean(0) + 10 * 0.5) / (size + 10)
