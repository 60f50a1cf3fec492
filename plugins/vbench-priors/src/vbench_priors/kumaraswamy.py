"""Kumaraswamy posterior of a stick-breaking latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import softplus

from vbench import Batch, Draw, Rng
from vbench_priors.sticks import SharesEncoder, log_complement, shares, weights

__all__ = ["Kumaraswamy", "KumaraswamyEncoder"]


@dataclass(frozen=True)
class Kumaraswamy:
    """Weights whose shares are independent Kumaraswamy variables.

    Attributes:
        a, b: ``[B, D]``, positive.
    """

    a: Tensor
    b: Tensor

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, B, D + 1]`` by the inverse of the distribution function, differentiable in a and b."""
        u = rng.uniform(k, *self.a.shape, dtype=self.a.dtype)
        log_v = log_complement(u.log() / self.b) / self.a
        z = weights(log_v, log_complement(log_v))
        return Draw(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, D + 1] -> [K, B]``, nats, by the volume of the first D weights."""
        log_v, _, log_volume = shares(z)
        terms = self.a.log() + self.b.log() + (self.a - 1) * log_v + (self.b - 1) * log_complement(self.a * log_v)
        return terms.sum(-1) - log_volume


class KumaraswamyEncoder(SharesEncoder):
    r"""Stick-breaking weights with Kumaraswamy shares, whose distribution function has an inverse.

    .. math:: \pi_k = v_k \prod_{j<k} (1 - v_j), \qquad q(v_k | x) = a b\, v^{a-1} (1 - v^a)^{b-1}, \qquad
       v = (1 - u^{1/b})^{1/a}

    with a and b of each share from one net by softplus. Latents are weights on the simplex, ``[latent + 1]``; the
    density is by the volume of the first ``latent``.

    Source: Nalisnick & Smyth (2017), Stick-Breaking Variational Autoencoders, arXiv:1605.06197.
    """

    def forward(self, batch: Batch, model: Any) -> Kumaraswamy:
        """q(z | x) with parameters ``[B, latent]``."""
        return Kumaraswamy(*map(softplus, self.parameters_of(batch)))
