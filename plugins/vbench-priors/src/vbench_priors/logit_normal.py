"""Logit-normal posterior of a stick-breaking latent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid

from vbench import Batch, Draw, Rng
from vbench_priors.sticks import SharesEncoder, shares, weights

__all__ = ["LogitNormal", "LogitNormalEncoder"]


@dataclass(frozen=True)
class LogitNormal:
    """Weights whose shares have independent normal log odds.

    Attributes:
        loc, log_scale: of the log odds, ``[B, D]``.
    """

    loc: Tensor
    log_scale: Tensor

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, B, D + 1]``, differentiable in both parameters."""
        odds = self.loc + self.log_scale.exp() * rng.normal(k, *self.loc.shape, dtype=self.loc.dtype)
        z = weights(logsigmoid(odds), logsigmoid(-odds))
        return Draw(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, D + 1] -> [K, B]``, nats, by the volume of the first D weights."""
        log_v, log_rest, log_volume = shares(z)
        standard = (log_v - log_rest - self.loc) * (-self.log_scale).exp()
        of_odds = -0.5 * standard.square() - self.log_scale - 0.5 * math.log(2 * math.pi)
        return (of_odds - log_v - log_rest).sum(-1) - log_volume


class LogitNormalEncoder(SharesEncoder):
    r"""Stick-breaking weights with logit-normal shares.

    .. math:: \pi_k = v_k \prod_{j<k} (1 - v_j), \qquad v_k = \sigma(\mu_k + s_k \epsilon_k)

    with mean and log scale of each share's log odds from one net. Latents are weights on the simplex,
    ``[latent + 1]``; the density is by the volume of the first ``latent``.

    Source: Nalisnick & Smyth (2017), Stick-Breaking Variational Autoencoders, arXiv:1605.06197, section 4.1.2 (its
    Gauss-logit parameterisation).
    """

    def forward(self, batch: Batch, model: Any) -> LogitNormal:
        """q(z | x) with parameters ``[B, latent]``."""
        return LogitNormal(*self.parameters_of(batch))
