"""Variational rejection sampling: proposals of a simple posterior, kept as their weights deserve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor
from torch.nn.functional import logsigmoid

from vbench import Batch, BernoulliEncoder, Density, Draw, Encoder, GaussianEncoder, Rng, Space, Trait
from vbench_rejection.nowhere import nowhere

__all__ = ["VRS", "Accepted"]

_ROUNDS: Final = 10_000
_KEY: Final = 0  # of the threshold's proposals, where a batch comes without a key of its own
_BASES: Final = {"bernoulli": BernoulliEncoder, "gaussian": GaussianEncoder}


@dataclass(frozen=True)
class Accepted:
    """What is left of a base posterior, known up to its normaliser.

    Attributes:
        base: q, what proposals are drawn from.
        model: whose log joint is aimed at.
        batch: the data.
        threshold: T, a number for all data or ``[B]``, nats.
        proposals: M, for the normaliser, for each draw.
    """

    base: Density
    model: Any
    batch: Batch
    threshold: float | Tensor
    proposals: int

    def log_prob(self, z: Tensor) -> Tensor:
        """Log of q a, unnormalised, ``[K, B, *Z] -> [K, B]``, nats; differentiable in all parts of the model."""
        log_q = self.base.log_prob(z)
        return log_q + self._log_acceptance(z, log_q)

    def draw(self, rng: Rng, k: int) -> Draw:
        """The first accepted of as many proposals as it takes, k times ``[K, B, *Z]``; no gradient flows through them.

        ``log_q`` is log q a less the log of the normaliser's estimate, which the k draws share. ``info`` has that
        estimate, the rate of acceptance ``[B]``, and the number of proposals behind each draw ``[K, B]``.
        """
        trials, others = rng.spawn(), rng.spawn()  # however many trials there are, what is drawn later is the same
        with torch.no_grad():
            z, log_r, count = self._first(trials, k)
            log_rate = self._log_rate(others, k)
        return Draw(z, log_r - log_rate, {"acceptance": log_rate.exp(), "proposals": count})

    def _log_acceptance(self, z: Tensor, log_q: Tensor) -> Tensor:
        return logsigmoid(self.model.log_joint(self.batch, z) - log_q + self.threshold)

    def _proposed(self, rng: Rng, k: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = self.base.draw(rng, k)
        return draw.z, draw.log_q, self._log_acceptance(draw.z, draw.log_q)  # type: ignore[arg-type,return-value]

    def _first(self, rng: Rng, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """The first accepted proposals, their log q a, and how many it took."""
        z, log_r, waiting, count = None, None, None, None
        for _ in range(_ROUNDS):
            proposal, log_q, log_a = self._proposed(rng, k)
            # what is not a number is taken, so that training can say so
            refused = rng.uniform(*log_a.shape, dtype=log_a.dtype).log() >= log_a
            if z is None:
                z, log_r, waiting, count = proposal, log_q + log_a, refused, torch.ones_like(log_a)
            else:
                z = torch.where(waiting.reshape(*waiting.shape, *[1] * (z.dim() - 2)), proposal, z)
                log_r = torch.where(waiting, log_q + log_a, log_r)
                count, waiting = count + waiting, waiting & refused
            if nowhere(waiting):
                return z, log_r, count
        raise RuntimeError(
            f"vrs: {_ROUNDS} proposals and none is accepted; a higher threshold or quantile accepts more"
        )

    def _log_rate(self, rng: Rng, k: int) -> Tensor:
        """Log of the mean acceptance of M K proposals of their own, ``[B]``."""
        log_a = torch.stack([self._proposed(rng, k)[2] for _ in range(self.proposals)]).flatten(0, 1)
        return log_a.logsumexp(0) - math.log(len(log_a))


class VRS(Encoder):
    r"""Proposals of a base posterior, accepted by how near they come to the true one.

    .. math:: a(z) = \sigma\big(\log p(x, z) - \log q(z | x) + T\big), \qquad
       r(z | x) = q(z | x)\, a(z) / Z, \qquad Z = E_q[a]

    T to infinity gives q, T to minus infinity the exact posterior, at 1 / Z proposals a draw. The bound is the ELBO of
    r, :math:`E_r[\log p(x, z) - \log q - \log a] + \log Z`; its covariance gradient is what the score rule with
    leave-one-out makes of the unnormalised density, where Z cancels. With ``log_q`` :math:`= \log q\, a - \log \hat Z`,
    :math:`\hat Z` unbiased and free of z, weights are proper. The value of a bound is low by
    :math:`\log Z - E \log \hat Z`, about :math:`(1 - Z) / (2 M K Z)` nats.

    T is a number, or for each datum the quantile of :math:`\log q - \log p(x, z)` over proposals that serve nothing
    else, drawn by the batch's key; no gradient flows through it. Latents are real or binary, ``[latent]``. A draw takes
    at least 1 + M decoder evaluations besides those that an estimator declares; records count them all.

    Source: Grover, Gummadi, Lazaro-Gredilla, Schuurmans & Ermon (2018), Variational Rejection Sampling,
    arXiv:1804.01712.
    """

    offers = frozenset({Trait.DENSITY, Trait.PROPER_WEIGHT, Trait.AMORTIZED})

    def __init__(
        self,
        x: Space,
        base: Annotated[Literal["bernoulli", "gaussian"], "family of the proposals"] = "gaussian",
        latent: Annotated[int, Ge(1), "number of latent variables"] = 50,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        quantile: Annotated[
            float, Gt(0), Lt(1), "share of proposals that are accepted at least half of the time"
        ] = 0.5,
        threshold: Annotated[float, "T for all data, nats, in place of the quantile"] | None = None,
        proposals: Annotated[int, Ge(1), "M, proposals for the normaliser, for each draw"] = 10,
        pilots: Annotated[int, Ge(1), "proposals for the quantile, for each datum"] = 25,
    ) -> None:
        super().__init__()
        self.base = _BASES[base](x, latent, hidden)
        self.z = self.base.z
        self.quantile, self.threshold = quantile, threshold
        self.proposals, self.pilots = proposals, pilots

    def forward(self, batch: Batch, model: Any) -> Accepted:
        """r(z | x), unnormalised."""
        base = self.base(batch, model)
        threshold = self._quantile(base, batch, model) if self.threshold is None else self.threshold
        return Accepted(base, model, batch, threshold, self.proposals)

    def _quantile(self, base: Any, batch: Batch, model: Any) -> Tensor:
        """T of each datum, ``[B]``, nats."""
        rng = Rng(_KEY if batch.key is None else batch.key, batch.x.device)
        with torch.no_grad():
            draw = base.draw(rng, self.pilots)
            excess = draw.log_q - model.log_joint(batch, draw.z)
        return excess.sort(0).values[math.ceil(self.quantile * self.pilots) - 1]
