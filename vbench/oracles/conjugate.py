r"""Exact answers in closed form: linear-Gaussian models with any diagonal Gaussian posterior.

:math:`z \sim N(m, \mathrm{diag}\, r^2)`, :math:`x | z \sim N(W z + b, \mathrm{diag}\, s^2)`. The numbers are
read off a model by asking its likelihood for the mean at a few latents, so that any affine decoder is served,
and every answer is differentiable in the model's own parameters. float64.

Source: Tipping & Bishop (1999), Probabilistic Principal Component Analysis, doi:10.1111/1467-9868.00196; for
the Renyi divergence Gil, Alajaji & Linder (2013), doi:10.1016/j.ins.2013.06.018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.linalg import cholesky

from vbench.families import DiagonalNormal
from vbench.oracles.common import gradient, in_double
from vbench.types import Batch

__all__ = ["LinearGaussian", "elbo", "exact_gradient", "log_evidence", "posterior", "renyi"]


@dataclass(frozen=True)
class LinearGaussian:
    """The model in numbers.

    Attributes:
        weight: W ``[X, D]``.
        bias: b ``[X]``.
        noise: standard deviations s ``[X]``.
        prior_loc, prior_scale: m and r ``[D]``.
    """

    weight: Tensor
    bias: Tensor
    noise: Tensor
    prior_loc: Tensor
    prior_scale: Tensor

    def log_evidence(self, x: Tensor) -> Tensor:
        """Log N(x; W m + b, W diag(r^2) W' + diag(s^2)) for ``x [B, X]``: ``[B]``, nats."""
        spread = self.weight * self.prior_scale
        covariance = spread @ spread.mT + self.noise.square().diag()
        return _log_normal(x - self.weight @ self.prior_loc - self.bias, covariance)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``[B, D]`` and covariance ``[D, D]`` of p(z | x) for ``x [B, X]``."""
        scaled = self.weight / self.noise.square()[:, None]
        precision = self.weight.mT @ scaled + self.prior_scale.square().reciprocal().diag()
        covariance = torch.cholesky_inverse(cholesky(precision))
        pull = (x - self.bias) @ scaled + self.prior_loc / self.prior_scale.square()
        return pull @ covariance, covariance

    def elbo(self, x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """E_q[log p(x, z) - log q(z)] for q = N(loc, diag scale^2), each ``[B, D]``: ``[B]``, nats."""
        error = (x - self.bias - loc @ self.weight.mT).square() + scale.square() @ self.weight.square().mT
        fit = -0.5 * (error / self.noise.square()).sum(1) - self.noise.log().sum()
        fit = fit - 0.5 * x.shape[1] * math.log(2 * math.pi)
        ratio = scale / self.prior_scale
        shift = (loc - self.prior_loc) / self.prior_scale
        return fit - (0.5 * (ratio.square() + shift.square() - 1) - ratio.log()).sum(1)

    def renyi(self, x: Tensor, loc: Tensor, scale: Tensor, alpha: float) -> Tensor:
        """Limit of the variational Renyi bound in K, log p(x) - D_alpha(q || p(z | x)): ``[B]``, nats.

        It is minus infinity (alpha > 1) or infinity (alpha < 0) where the divergence does not exist, although
        any Monte Carlo estimate of it is finite.
        """
        if alpha == 1:
            return self.elbo(x, loc, scale)
        mean, covariance = self.posterior(x)
        own = torch.diag_embed(scale.square())
        mixed = alpha * covariance + (1 - alpha) * own  # [B, D, D]
        exists = torch.linalg.eigvalsh(mixed)[:, 0] > 0
        mixed = torch.where(exists[:, None, None], mixed, own)
        delta = (loc - mean)[..., None]
        distance = 0.5 * alpha * (delta.mT @ torch.linalg.solve(mixed, delta))[:, 0, 0]
        volume = torch.logdet(mixed) - (1 - alpha) * torch.logdet(own) - alpha * torch.logdet(covariance)
        divergence = distance - 0.5 * volume / (alpha - 1)
        undefined = -math.inf if alpha > 1 else math.inf
        return torch.where(exists, self.log_evidence(x) - divergence, undefined)


def log_evidence(model: Any, batch: Batch) -> Tensor:
    """Exact log p(x), ``[B]``, nats."""
    numbers, x, _ = _read(model, batch)
    return numbers.log_evidence(x)


def posterior(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean ``[B, D]`` and covariance ``[D, D]`` of the true posterior."""
    numbers, x, _ = _read(model, batch)
    return numbers.posterior(x)


def elbo(model: Any, batch: Batch) -> Tensor:
    """Exact ELBO of the model's posterior, ``[B]``, nats, differentiable in every parameter."""
    numbers, x, q = _read(model, batch)
    return numbers.elbo(x, *q)


def renyi(model: Any, batch: Batch, alpha: float) -> Tensor:
    """Exact limit of the variational Renyi bound in K, ``[B]``, nats (:meth:`LinearGaussian.renyi`)."""
    numbers, x, q = _read(model, batch)
    return numbers.renyi(x, *q, alpha)


def exact_gradient(model: Any, batch: Batch) -> dict[str, Tensor]:
    """Gradient of the batch mean of :func:`elbo` for every trained parameter of the model, by name."""
    return gradient(elbo(model, batch), model)


def _read(model: Any, batch: Batch) -> tuple[LinearGaussian, Tensor, tuple[Tensor, Tensor]]:
    """The numbers of a linear-Gaussian model, its data ``[B, X]``, q's loc and scale; refuses any other."""
    model, batch = in_double(model, batch)
    if batch.mask is not None:
        raise ValueError("the conjugate oracle does not serve masked data")
    loc, scale = _gaussian(model.prior_density(batch))
    if not (torch.allclose(loc, loc[:1]) and torch.allclose(scale, scale[:1])):
        raise ValueError("the conjugate oracle needs one prior for all data")
    size = loc.shape[1]
    probes = _probes(size, loc)
    z = probes.reshape(-1, 1, *model.encoder.z.shape).expand(-1, batch.x.shape[0], *model.encoder.z.shape)
    likelihood = model.likelihood(batch, z)
    mean = likelihood.mean.flatten(2)
    bias, weight = mean[0, 0], (mean[1 : size + 1, 0] - mean[0, 0]).mT
    noise = likelihood.scale.flatten(2).expand_as(mean) if hasattr(likelihood, "scale") else None
    affine = torch.allclose(mean, (probes @ weight.mT + bias)[:, None])
    if noise is None or not affine or not torch.allclose(noise, noise[0, 0].expand_as(noise)):
        raise ValueError(f"{type(model.decoder).__name__} is not affine in z with constant Gaussian noise")
    numbers = LinearGaussian(weight, bias, noise[0, 0], loc[0], scale[0])
    return numbers, batch.x.flatten(1), _gaussian(model.posterior(batch))


def _probes(size: int, like: Tensor) -> Tensor:
    """The origin, the unit vectors, and two points that only an affine function fits too: ``[D + 3, D]``."""
    units = torch.eye(size, dtype=like.dtype, device=like.device)
    ramp = torch.linspace(-2.5, 1.5, size, dtype=like.dtype, device=like.device)[None]
    return torch.cat([torch.zeros_like(ramp), units, ramp, 3.1 - ramp])


def _gaussian(density: Any) -> tuple[Tensor, Tensor]:
    """Loc and scale ``[B, D]`` of a diagonal normal, refusing what only looks like one."""
    if hasattr(density, "loc") and hasattr(density, "scale"):
        loc, scale = density.loc, density.scale
        point = loc + 0.7 * scale
        if torch.allclose(density.log_prob(point[None]), DiagonalNormal(loc, scale).log_prob(point[None])):
            return loc.flatten(1), scale.flatten(1)
    raise ValueError(f"the conjugate oracle needs diagonal normals, not {type(density).__name__}")


def _log_normal(x: Tensor, covariance: Tensor) -> Tensor:
    """Log N(x; 0, covariance) for ``x [B, X]``: ``[B]``, nats."""
    factor: Tensor = cholesky(covariance)
    white = torch.linalg.solve_triangular(factor, x.mT, upper=False)
    log_det = factor.diagonal().log().sum()
    log_density: Tensor = -0.5 * white.square().sum(0) - log_det - 0.5 * x.shape[1] * math.log(2 * math.pi)
    return log_density
