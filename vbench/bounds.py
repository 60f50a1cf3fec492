"""Bounds: pure functions of log weights, ``[K, B] -> [B]``, nats per datum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["ELBO", "IWAE", "Combined", "Filtering", "Kind", "Renyi"]

Kind = Literal["lower", "upper", "none"]


def _log_mean_exp(log_w: Tensor) -> Tensor:
    """Log of the mean of exp, ``[K, B] -> [B]``."""
    # centred: the slope of logsumexp is exp(log_w - result), so in float32 at -10,000 nats the weights
    # would sum to one within 5e-4 only
    top = log_w.detach().amax(0)
    top = torch.where(top.isfinite(), top, 0)
    return (log_w - top).logsumexp(0) + top - math.log(log_w.shape[0])


@dataclass(frozen=True)
class ELBO:
    r"""Evidence lower bound, :math:`\frac1K \sum_k \log w_k`.

    Source: Jordan, Ghahramani, Jaakkola & Saul (1999), An Introduction to Variational Methods for Graphical
    Models, doi:10.1023/A:1007665907178.
    """

    kind: Kind = "lower"
    linear: bool = True
    smooth: bool = True

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``."""
        return log_w.mean(0)

    def curvature(self, log_w: Tensor) -> Tensor:
        """Second derivative in each log weight, ``[K, B]``."""
        return torch.zeros_like(log_w)


@dataclass(frozen=True)
class IWAE:
    r"""Importance-weighted bound, :math:`\log \frac1K \sum_k w_k`.

    Source: Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519.
    """

    kind: Kind = "lower"
    linear: bool = False
    smooth: bool = True

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``."""
        return _log_mean_exp(log_w)

    def curvature(self, log_w: Tensor) -> Tensor:
        """Second derivative in each log weight, ``[K, B]``."""
        share = log_w.softmax(0)
        return share * (1 - share)


@dataclass(frozen=True)
class Renyi:
    r"""Variational Renyi bound, :math:`\frac{1}{1-\alpha} \log \frac1K \sum_k w_k^{1-\alpha}`.

    ``alpha = 0`` is IWAE, ``alpha = 1`` (the limit) the ELBO, ``alpha = -inf`` (the limit) the largest log weight
    (VR-max), ``alpha = inf`` the least. For ``alpha >= 0`` its expectation is a lower bound at every K; for
    ``alpha < 0`` the limit in K is an upper bound, but no finite K is guaranteed to be on either side.

    Source: Li & Turner (2016), Renyi Divergence Variational Inference, arXiv:1602.02311.
    """

    alpha: float

    @property
    def kind(self) -> Kind:
        """``lower`` for alpha >= 0, else ``none``."""
        return "lower" if self.alpha >= 0 else "none"

    @property
    def linear(self) -> bool:
        """True at alpha = 1 only."""
        return self.alpha == 1

    @property
    def smooth(self) -> bool:
        """False in the limits, where one sample takes all."""
        return math.isfinite(self.alpha)

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``."""
        if self.linear:
            return log_w.mean(0)
        if not self.smooth:
            return log_w.amax(0) if self.alpha < 0 else log_w.amin(0)
        power = 1 - self.alpha
        return _log_mean_exp(power * log_w) / power

    def curvature(self, log_w: Tensor) -> Tensor:
        """Second derivative in each log weight, ``[K, B]``, where ``smooth``."""
        if self.linear:
            return torch.zeros_like(log_w)
        power = 1 - self.alpha
        share = (power * log_w).softmax(0)
        return power * share * (1 - share)


@dataclass(frozen=True)
class Filtering:
    r"""Filtering bound, :math:`E \log \hat p` of a particle filter with K particles.

    .. math:: \hat p = \prod_t \sum_k W_{t-1}^k \alpha_t^k, \qquad
       \alpha_t = p(x_t | z_{\le t}, x_{<t})\, p(z_t | z_{<t}, x_{<t}) / q(z_t | z_{<t}, x)

    W are the normalised weights, 1/K at the start and after resampling. Of the log weights of a single step it is
    IWAE; without resampling it is IWAE over whole sequences.

    Attributes:
        schedule: resample before every later step (``always``), or where 1 / sum W^2 < threshold K (``adaptive``).
        scheme: how ancestors are drawn.
        threshold: of the adaptive schedule.

    Source: Maddison, Lawson, Tucker et al. (2017), Filtering Variational Objectives, arXiv:1705.09279.
    """

    schedule: Literal["always", "adaptive"] = "adaptive"
    scheme: Literal["multinomial", "stratified", "systematic"] = "multinomial"
    threshold: float = 0.5
    kind: Kind = "lower"
    linear: bool = False
    smooth: bool = False

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``, of one step."""
        return _log_mean_exp(log_w)


@dataclass(frozen=True)
class Combined:
    r"""Convex combination of two bounds, :math:`\beta\, \mathrm{ELBO} + (1 - \beta)\, \mathrm{IWAE}_K`.

    Source: Rainforth et al. (2018), Tighter Variational Bounds Are Not Necessarily Better, arXiv:1802.04537.
    """

    beta: float
    kind: Kind = "lower"
    smooth: bool = True

    @property
    def linear(self) -> bool:
        """True where nothing but the ELBO is left."""
        return self.beta == 1

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``."""
        return self.beta * ELBO()(log_w) + (1 - self.beta) * IWAE()(log_w)
