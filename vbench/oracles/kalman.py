r"""Exact answers for linear-Gaussian state space models: the Kalman filter and the Rauch-Tung-Striebel smoother.

.. math:: z_1 \sim N(m, P), \quad z_t = A z_{t-1} + b + N(0, Q), \quad x_t = C z_t + d + N(0, R)

Every answer is differentiable in every matrix and offset, in float64. Covariances are carried as factors L, P = L L',
and conditioned by triangularising an array (square-root form), so that they are positive by construction and keep
twice the digits: nothing is subtracted from a covariance.

Source: Kalman (1960), A New Approach to Linear Filtering and Prediction Problems, doi:10.1115/1.3662552; Rauch,
Tung & Striebel (1965), Maximum Likelihood Estimates of Linear Dynamic Systems, doi:10.2514/3.3166; the array form
in Kailath, Sayed & Hassibi (2000), Linear Estimation, chapter 12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.linalg import cholesky

__all__ = ["Filtered", "LinearGaussianChain", "Smoothed", "filtering", "log_evidence", "smoothing"]

_ZERO: Final = torch.zeros((), dtype=torch.float64)


@dataclass(frozen=True)
class LinearGaussianChain:
    """The model in numbers; latents have D entries, observations X.

    Attributes:
        transition: A ``[D, D]``.
        transition_covariance: Q ``[D, D]``.
        emission: C ``[X, D]``.
        emission_covariance: R ``[X, X]``.
        initial_mean: m ``[D]``, of the first state, the one that the first observation is of.
        initial_covariance: P ``[D, D]``.
        transition_offset: b ``[D]``, or a number as a tensor ``[]``.
        emission_offset: d ``[X]``, or a number as a tensor ``[]``.
    """

    transition: Tensor
    transition_covariance: Tensor
    emission: Tensor
    emission_covariance: Tensor
    initial_mean: Tensor
    initial_covariance: Tensor
    transition_offset: Tensor = _ZERO
    emission_offset: Tensor = _ZERO

    def __post_init__(self) -> None:
        latent, data = self.initial_mean.numel(), self.emission.shape[0]
        wanted: dict[str, list[tuple[int, ...]]] = {
            "transition": [(latent, latent)],
            "transition_covariance": [(latent, latent)],
            "emission": [(data, latent)],
            "emission_covariance": [(data, data)],
            "initial_mean": [(latent,)],
            "initial_covariance": [(latent, latent)],
            "transition_offset": [(latent,), ()],
            "emission_offset": [(data,), ()],
        }
        for field in fields(self):
            value, shapes = getattr(self, field.name), wanted[field.name]
            if value.shape not in shapes:
                raise ValueError(f"{field.name} must be {list(shapes[0])}, not {list(value.shape)}")
            object.__setattr__(self, field.name, value.double())


class Filtered(NamedTuple):
    """What is known at each step from the observations up to then; a factor L makes the covariance L L'."""

    log_predictive: Tensor  # log p(x_t | x_1..t-1), [B, T], nats
    mean: Tensor  # E[z_t | x_1..t], [B, T, D]
    factor: Tensor  # of Cov[z_t | x_1..t], [B, T, D, D]
    predicted_mean: Tensor  # E[z_t | x_1..t-1], [B, T, D]
    predicted_factor: Tensor  # of Cov[z_t | x_1..t-1], [B, T, D, D]

    @property
    def covariance(self) -> Tensor:
        """Cov[z_t | x_1..t], ``[B, T, D, D]``."""
        return self.factor @ self.factor.mT

    @property
    def predicted_covariance(self) -> Tensor:
        """Cov[z_t | x_1..t-1], ``[B, T, D, D]``."""
        return self.predicted_factor @ self.predicted_factor.mT


class Smoothed(NamedTuple):
    """What is known at each step from all observations."""

    mean: Tensor  # E[z_t | x], [B, T, D]
    covariance: Tensor  # Cov[z_t | x], [B, T, D, D]
    cross_covariance: Tensor  # Cov[z_t+1, z_t | x], [B, T - 1, D, D]


def log_evidence(chain: LinearGaussianChain, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Log p(x) of the observed entries, ``[B]``, nats (arguments as in :func:`filtering`)."""
    return filtering(chain, x, mask).log_predictive.sum(1)


def filtering(chain: LinearGaussianChain, x: Tensor, mask: Tensor | None = None) -> Filtered:
    r"""Moments of each state given the past, and the density of each observation given the past.

    With the innovation v = x_t - C m - d, its covariance S = C P C' + R and the gain K = P C' S^-1:

    .. math:: \log p(x_t | x_{<t}) = \log N(v; 0, S), \quad m \leftarrow m + K v, \quad
       P \leftarrow (I - K C) P (I - K C)' + K R K'

    Args:
        chain: the model.
        x: observations ``[B, T, X]``; whatever stands where nothing was observed is ignored.
        mask: observed entries ``[B, T, X]``; any may be missing, also all of a step.

    Raises:
        ValueError: where shapes do not fit.
        torch.linalg.LinAlgError: where P, Q or R is not positive definite.
    """
    size = chain.emission.shape[0]
    if x.dim() != 3 or x.shape[1] < 1 or x.shape[2] != size:
        raise ValueError(f"x must be [B, T, {size}] with T >= 1, not {list(x.shape)}")
    if mask is not None and mask.shape != x.shape:
        raise ValueError(f"the mask must be {list(x.shape)} as x is, not {list(mask.shape)}")
    # a mask makes covariances differ between data; without one they are computed once
    observed = torch.ones_like(x[:1], dtype=torch.bool) if mask is None else mask.bool()
    x, drift = torch.where(observed, x, 0).double(), cholesky(chain.transition_covariance)
    mean, factor = chain.initial_mean.expand(x.shape[0], -1), cholesky(chain.initial_covariance)[None]
    steps = []
    for t in range(x.shape[1]):
        if t:
            mean = mean @ chain.transition.mT + chain.transition_offset
            factor = _condition(factor, chain.transition, drift)[0]
        predicted = mean, factor
        log_density, mean, factor = _update(chain, mean, factor, x[:, t], observed[:, t].double())
        steps.append((log_density, mean, factor, *predicted))
    return Filtered(*(_over_time(parts, x.shape[0]) for parts in zip(*steps, strict=True)))


def smoothing(chain: LinearGaussianChain, x: Tensor, mask: Tensor | None = None) -> Smoothed:
    r"""Moments of each state and of each pair of neighbours given all observations.

    Backwards from the filter, with G = P_t A' (A P_t A' + Q)^-1 and the smoothed m', P' of the next step:

    .. math:: m \leftarrow m_t + G (m' - A m_t - b), \quad
       P \leftarrow \mathrm{Cov}[z_t | z_{t+1}, x_{\le t}] + G P' G', \quad \mathrm{Cov}[z_{t+1}, z_t] = P' G'

    Args:
        chain: the model.
        x: observations ``[B, T, X]``.
        mask: observed entries ``[B, T, X]``.

    Raises:
        ValueError: where shapes do not fit.
        torch.linalg.LinAlgError: where P, Q or R is not positive definite.
    """
    past, drift = filtering(chain, x, mask), cholesky(chain.transition_covariance)
    mean, covariance = past.mean[:, -1], past.covariance[:, -1]
    means, covariances, crosses = [mean], [covariance], []
    for t in range(x.shape[1] - 2, -1, -1):
        predicted, scaled, rest = _condition(past.factor[:, t], chain.transition, drift)
        gain = torch.linalg.solve_triangular(predicted, scaled, upper=False, left=False)
        shift = (mean - past.predicted_mean[:, t + 1])[..., None]
        crosses.append(covariance @ gain.mT)
        mean = past.mean[:, t] + (gain @ shift)[..., 0]
        covariance = rest @ rest.mT + gain @ covariance @ gain.mT
        means.append(mean)
        covariances.append(covariance)
    cross = torch.stack(crosses[::-1], 1) if crosses else past.factor[:, :0]
    return Smoothed(torch.stack(means[::-1], 1), torch.stack(covariances[::-1], 1), cross)


def _update(
    chain: LinearGaussianChain, mean: Tensor, factor: Tensor, x: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log density of ``x [B, X]``, and mean and factor given it; ``observed [B or 1, X]`` is 1 or 0.

    An entry that is missing is replaced by one that says nothing: no dependence on the state, unit noise, and
    an innovation of zero.
    """
    error = (observed * (x - mean @ chain.emission.mT - chain.emission_offset))[..., None]
    noise = observed[..., None] * chain.emission_covariance * observed[:, None] + (1 - observed).diag_embed()
    spread, scaled, rest = _condition(factor, observed[..., None] * chain.emission, cholesky(noise))
    white = torch.linalg.solve_triangular(spread, error, upper=False)
    log_density = -0.5 * white.square().sum((1, 2)) - spread.diagonal(dim1=1, dim2=2).abs().log().sum(1)
    log_density = log_density - 0.5 * math.log(2 * math.pi) * observed.sum(1)
    return log_density, mean + (scaled @ white)[..., 0], rest


def _condition(factor: Tensor, matrix: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""What y = M z + N u says of z, of covariance L L', where u is standard normal; Theta is orthogonal.

    .. math:: \begin{pmatrix} M L & N \\ L & 0 \end{pmatrix} \Theta = \begin{pmatrix} Y & 0 \\ H & J \end{pmatrix},
       \quad \mathrm{Cov}[y] = Y Y', \quad \mathrm{Cov}[z, y] = H Y', \quad \mathrm{Cov}[z | y] = J J'

    Args:
        factor: L ``[B or 1, D, D]``.
        matrix: M ``[Y, D]`` or ``[B or 1, Y, D]``.
        noise: N ``[Y, Y]`` or ``[B or 1, Y, Y]``.

    Returns:
        Y ``[B or 1, Y, Y]``, H ``[B or 1, D, Y]`` and J ``[B or 1, D, D]``; diagonals may be negative.
    """
    seen = matrix @ factor
    above = torch.cat([seen, noise.expand(len(seen), -1, -1)], 2)
    below = torch.cat([factor.expand(len(seen), -1, -1), torch.zeros_like(seen.mT)], 2)
    lower = torch.linalg.qr(torch.cat([above, below], 1).mT).R.mT
    size = matrix.shape[-2]
    return lower[:, :size, :size], lower[:, size:, :size], lower[:, size:, size:]


def _over_time(parts: tuple[Tensor, ...], size: int) -> Tensor:
    """Steps ``[B or 1, ...]`` stacked in the second dimension, for every datum."""
    return torch.stack([part.expand(size, *part.shape[1:]) for part in parts], 1)
