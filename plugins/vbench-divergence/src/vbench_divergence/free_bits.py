"""Free bits: a rate below its allowance costs the same as the allowance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge
from torch import Tensor

from vbench import Atoms, Batch, DiagonalNormal, Estimate, Estimator, Rng, Trait

__all__ = ["Allowance", "FreeBits"]

Over = Literal["batch", "datum"]


def _charge(rates: Tensor, nats: float, over: Over) -> Tensor:
    """What rates ``[B, D]`` cost each datum, ``[B]``."""
    rates = rates.mean(0, keepdim=True).expand_as(rates) if over == "batch" else rates
    return rates.clamp(min=nats).sum(1)


@dataclass(frozen=True)
class Allowance:
    r"""ELBO with free bits, :math:`E_q[\log p(x | z)] - \sum_d \max(\lambda, \mathrm{KL}_d)`.

    Source: Kingma et al. (2016), Improving Variational Inference with Inverse Autoregressive Flow, arXiv:1606.04934.
    """

    nats: float
    over: Over
    linear: bool = True

    @property
    def kind(self) -> Literal["lower", "none"]:
        """``lower`` datum by datum; averaged over a batch it is one for the batch's mean alone."""
        return "lower" if self.over == "datum" else "none"

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """``[B]``, nats: each variable's rate as a mean over the points."""
        own, other = model.posterior(batch), model.prior_density(batch)
        excess = _log_normal(q.z, own) - _log_normal(q.z, other)  # [S, B, D]
        rates = (q.log_mass.exp()[..., None] * excess).sum(0)
        fit = (q.log_mass.exp() * model.log_likelihood(batch, q.z)).sum(0)
        return fit - _charge(rates, self.nats, self.over)


def _log_normal(z: Tensor, normal: Any) -> Tensor:
    """Log density of each variable but for a constant, ``[S, B, D]``."""
    return (-0.5 * ((z - normal.loc) / normal.scale).square() - normal.scale.log()).flatten(2)


class FreeBits(Estimator):
    r"""ELBO with an allowance of nats for each latent variable, reparameterised, its rates in closed form.

    .. math:: \frac1K \sum_k \log p(x | z_k)
       - \sum_d \max\big(\lambda,\; \frac1B \sum_b \mathrm{KL}(q(z_d | x_b) \| p(z_d))\big)

    As published the rate is averaged over the minibatch before it is held against the allowance, so that data interact;
    ``over: datum`` holds each datum's own rate against it. Unbiased for this objective of the batch. A group of the
    paper is one latent variable here.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling (2016), Improving Variational Inference with
    Inverse Autoregressive Flow, arXiv:1606.04934.
    """

    needs = frozenset({Trait.PATHWISE, Trait.LOC_SCALE, Trait.FACTORIZED_PRIOR})

    def __init__(
        self,
        nats: Annotated[float, Ge(0), "what each latent variable may tell at no further cost; 0 is the ELBO"] = 0.1,
        over: Annotated[Over, "whose rate is held against it: the minibatch's mean, or each datum's own"] = "batch",
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
    ) -> None:
        super().__init__()
        self.nats, self.over, self.k = nats, over, k
        self.bound = Allowance(nats, over)
        self.coupled = over == "batch"

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[]`` over the batch, ``[B]`` datum by datum."""
        posterior, prior = model.posterior(batch), model.prior_density(batch)
        fit = model.log_likelihood(batch, posterior.draw(rng, self.k).z).mean(0)
        value = fit - _charge(_rates(posterior, prior), self.nats, self.over)
        return Estimate(value.detach(), value.mean() if self.coupled else value)


def _rates(posterior: Any, prior: Any) -> Tensor:
    """KL of each latent variable, ``[B, D]``."""
    shape = posterior.loc.shape
    one_by_one = [DiagonalNormal(*(t.expand(shape).reshape(-1) for t in (n.loc, n.scale))) for n in (posterior, prior)]
    return one_by_one[0].kl(one_by_one[1]).reshape(shape[0], -1)
