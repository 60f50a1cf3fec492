"""Wake-sleep: the decoder learns from data, the encoder from dreams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import ELBO, Atoms, Batch, Estimate, Estimator, Parts, Rng, Trait, frozen, moving
from vbench_divergence.draws import prior_draws

__all__ = ["Dreams", "WakeSleep"]

_STATES = 4096


@dataclass(frozen=True)
class Dreams:
    r"""The sleep phase, :math:`E_{p(x, z)} \log q(z | x)` with p held fixed.

    Source: Hinton, Dayan, Frey & Neal (1995), The Wake-Sleep Algorithm for Unsupervised Neural Networks,
    doi:10.1126/science.7761831.
    """

    linear: bool = True
    kind: Literal["none"] = "none"

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """``[B]``, nats, by every state of binary data."""
        x, size = batch.x[0], len(batch.x)
        if 2 ** x.numel() > _STATES or not bool(((batch.x == 0) | (batch.x == 1)).all()):
            raise ValueError("dreams are summed over few binary pixels only")
        z = p.z.detach().expand(-1, size, *p.z.shape[2:])
        likelihood = model.likelihood(batch, z)
        total = batch.x.new_zeros(size)
        for state in torch.cartesian_prod(*[torch.arange(2)] * x.numel()).reshape(-1, *x.shape):
            dream = batch._replace(x=state.to(x).expand_as(batch.x))
            mass = (p.log_mass + likelihood.log_prob(dream.x)).exp().detach()
            total = total + (mass * model.posterior(dream).log_prob(z)).sum(0)
        return total


class WakeSleep(Estimator):
    r"""Wake-sleep: two phases, each with the other density held fixed.

    .. math:: \text{wake}: \frac1K \sum_k \nabla_\theta \log p(x, z_k), \; z_k \sim q(z | x); \qquad
       \text{sleep}: \frac1K \sum_k \nabla_\phi \log q(z'_k | x'_k), \; (x'_k, z'_k) \sim p(x, z)

    Decoder and prior ascend the ELBO, without bias; the encoder descends KL(p(z | x) || q) on dreamed data, so its
    gradient is that of no bound of the data: each part has its own in ``target``. Each datum has K dreams of its own.
    Any latents with a normalised density, from an encoder that serves data it was not trained on; 2 K evaluations.

    Source: Hinton, Dayan, Frey & Neal (1995), The Wake-Sleep Algorithm for Unsupervised Neural Networks,
    doi:10.1126/science.7761831; Dayan (2000), Helmholtz Machines and Wake-Sleep Learning.
    """

    needs = frozenset({Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED})
    bound = ELBO()

    def __init__(self, k: Annotated[int, Ge(1), "samples and dreams per datum, averaged"] = 1) -> None:
        super().__init__()
        self.k = k
        self.target = Parts(encoder=(Dreams(), k), decoder=(ELBO(), k), prior=(ELBO(), k))

    @property
    def evaluations(self) -> int:
        """Once for each sample, once for each dream."""
        return 2 * self.k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        posterior = frozen(model).posterior(batch)
        z = posterior.draw(rng, self.k).z.detach()
        log_p = moving(model, "decoder", "prior").log_joint(batch, z)
        value = (log_p.detach() - posterior.log_prob(z).detach()).mean(0)
        return Estimate(value, log_p.mean(0) + self._sleep(model, batch, rng))

    def _sleep(self, model: Any, batch: Batch, rng: Rng) -> Tensor:
        """Log q at dreams, ``[B]``."""
        size = len(batch.x)
        z = prior_draws(model, rng, self.k, size).detach()
        x = model.likelihood(None, z).sample(rng).detach()
        dreams = batch._replace(x=x.flatten(0, 1), index=batch.index.repeat(self.k), mask=None)
        log_q: Tensor = model.posterior(dreams).log_prob(z.flatten(0, 1)[None])
        return log_q.reshape(self.k, size).mean(0)
