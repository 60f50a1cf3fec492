"""Measure-valued gradients: differences of the objective between two draws of one variable at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import ELBO, Batch, Bernoulli, DiagonalNormal, Estimate, Estimator, Rng, Space, Trait, frozen
from vbench_discrete.relaxation import event_sum

__all__ = ["BernoulliMeasureValued", "GaussianMeasureValued", "measure_valued"]


def one_at_a_time(f: Callable[[Tensor], Tensor], z: Tensor, new: Tensor, chunk: int) -> Tensor:
    """``f [N, B, *Z] -> [N, B]`` with one variable of ``z [K, B, *Z]`` at a time taken from ``new``: ``[K, B, *Z]``."""
    flat, other = z.flatten(2), new.flatten(2)
    which = torch.eye(flat.shape[-1], dtype=torch.bool, device=z.device)
    values = []
    for start in range(0, len(which), chunk):
        moved = torch.where(which[start : start + chunk, None, None], other, flat)  # [chunk, K, B, D]
        values.append(f(moved.reshape(-1, *z.shape[1:])).reshape(moved.shape[:-1]))
    return torch.cat(values).movedim(0, -1).reshape(z.shape)


class GaussianMeasureValued(Estimator):
    """The rule for real latents with a diagonal normal posterior; see :func:`measure_valued`."""

    bound = ELBO()
    needs = frozenset({Trait.LOC_SCALE, Trait.DENSITY, Trait.NORMALIZED, Trait.latent("real")})

    def __init__(self, z: Space, k: int, chunk: int) -> None:
        super().__init__()
        self.k, self.chunk, self.size = k, chunk, z.size

    @property
    def evaluations(self) -> int:
        """At the draw, and two for the mean and two for the scale of each variable."""
        return self.k * (4 * self.size + 1)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior, fixed = model.posterior(batch), frozen(model)
        loc, scale = posterior.loc.detach(), posterior.scale.detach()
        q, shape = DiagonalNormal(loc, scale), (self.k, *loc.shape)
        z = loc + scale * rng.normal(*shape, dtype=loc.dtype)
        log_joint = model.log_joint(batch, z)
        f = log_joint.detach() - q.log_prob(z)

        def log_weight(z: Tensor) -> Tensor:
            log_w: Tensor = fixed.log_joint(batch, z) - q.log_prob(z)
            return log_w

        def at(noise: Tensor) -> Tensor:
            return one_at_a_time(log_weight, z, loc + scale * noise, self.chunk)

        weibull = (-2 * rng.uniform(*shape, dtype=loc.dtype).log()).sqrt()
        maxwell = rng.normal(3, *shape, dtype=loc.dtype).square().sum(0).sqrt()
        maxwell = torch.where(rng.uniform(*shape, dtype=loc.dtype) < 0.5, -maxwell, maxwell)
        inner = maxwell * rng.uniform(*shape, dtype=loc.dtype)
        by_loc = (at(weibull) - at(-weibull)).mean(0) / (math.sqrt(2 * math.pi) * scale)  # [B, *Z]
        by_scale = (at(maxwell) - at(inner)).mean(0) / scale
        encoder = event_sum(by_loc.detach() * posterior.loc + by_scale.detach() * posterior.scale, 1)
        return Estimate(f.mean(0), encoder + log_joint.mean(0))


class BernoulliMeasureValued(Estimator):
    """The rule for binary latents; see :func:`measure_valued`."""

    bound = ELBO()
    needs = frozenset({Trait.LOGITS, Trait.latent("binary")})

    def __init__(self, z: Space, k: int, chunk: int) -> None:
        super().__init__()
        self.k, self.chunk, self.size = k, chunk, z.size

    @property
    def evaluations(self) -> int:
        """At the draw, and at its neighbour in each variable."""
        return self.k * (self.size + 1)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        logits, fixed = model.posterior(batch).logits, frozen(model)
        q = Bernoulli(logits.detach())
        b = q.draw(rng, self.k).z
        log_joint = model.log_joint(batch, b)
        f = log_joint.detach() - q.log_prob(b)
        flipped = one_at_a_time(lambda z: fixed.log_joint(batch, z) - q.log_prob(z), b, 1 - b, self.chunk)
        own = f.reshape(*f.shape, *[1] * (b.dim() - 2))
        g = q.mean * (1 - q.mean) * ((2 * b - 1) * (own - flipped)).mean(0)
        return Estimate(f.mean(0), event_sum(g.detach() * logits, 1) + log_joint.mean(0))


def measure_valued(
    z: Space,
    k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
    chunk: Annotated[int, Ge(1), "variables moved in one call of the decoder; memory only"] = 32,
) -> Estimator:
    r"""ELBO by weak derivatives of each latent variable's density.

    .. math:: \frac{\partial}{\partial \mu_d}: \frac{f(\mu_d + \sigma_d w) - f(\mu_d - \sigma_d w)}{\sqrt{2\pi}\,
       \sigma_d}, \qquad \frac{\partial}{\partial \sigma_d}: \frac{f(\mu_d + \sigma_d m) - f(\mu_d + \sigma_d m u)}
       {\sigma_d}, \qquad \frac{\partial}{\partial l_d}: p_d (1 - p_d) \big( f(b_d = 1) - f(b_d = 0) \big)

    f is the log weight with variable d replaced and the others as drawn. For a normal posterior w is Weibull (density
    :math:`w e^{-w^2/2}`), m double-sided Maxwell (:math:`m^2 e^{-m^2/2} / \sqrt{2\pi}`) and u uniform, shared by both
    terms; for Bernoulli latents with logits l the difference is exact in d. Unbiased for the ELBO. It costs 4 D
    decoder evaluations for each sample and normal latents of size D, D for binary ones, and one at the draw itself.

    Source: Mohamed, Rosca, Figurnov & Mnih (2020), Monte Carlo Gradient Estimation in Machine Learning,
    arXiv:1906.10652, section 6.
    """
    kind = BernoulliMeasureValued if z.support == "binary" else GaussianMeasureValued
    return kind(z, k, chunk)
