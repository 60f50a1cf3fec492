"""Logit-normal posterior of a stick-breaking latent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr

from vbench import Batch, Draw, Rng
from vbench_priors.sticks import SharesEncoder, shares, weights

__all__ = ["LogitNormal", "LogitNormalEncoder"]

_FAR: Final = -1000.0  # standard deviations


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
        stick, precision = shares(z), (-self.log_scale).exp()
        standard = (stick.log_v - stick.log_rest - self.loc) * precision
        of_odds = -0.5 * standard.square() - self.log_scale - 0.5 * math.log(2 * math.pi)
        # farther out the slope of log_ndtr is lost to rounding, and 0 times it is no number
        low, high = (log_ndtr(((-stick.end - loc) * precision).clamp(min=_FAR)) for loc in (self.loc, -self.loc))
        return stick.log_density(of_odds - stick.log_v - stick.log_rest, low, high)


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
