"""The exact ELBO, by enumeration of every latent state."""

from __future__ import annotations

from typing import Any

from vbench import ELBO, Batch, Estimate, Estimator, Rng, Space, Trait
from vbench_discrete.states import count, states

__all__ = ["Enumerate"]


class Enumerate(Estimator):
    r"""ELBO and its gradient without noise, for at most :math:`2^{12}` latent states.

    .. math:: \nabla \sum_z q(z | x) \big(\log p(x, z) - \log q(z | x)\big)

    Exact for all parameters at once: value and surrogate ``[B]`` in nats are the same number, and no randomness is
    used. One decoder evaluation for every state; binary and categorical latents.

    Source: Saul, Jaakkola & Jordan (1996), Mean Field Theory for Sigmoid Belief Networks, arXiv:cs/9603102.
    """

    needs = frozenset({Trait.ENUMERABLE, Trait.DENSITY, Trait.NORMALIZED})
    bound = ELBO()

    def __init__(self, z: Space) -> None:
        super().__init__()
        self.z, self._states = z, count(z)

    @property
    def evaluations(self) -> int:
        """One for each latent state."""
        return self._states

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``: here they are the same number."""
        atoms = states(self.z, batch.x)  # [S, *Z]
        z = atoms[:, None].expand(-1, batch.x.shape[0], *self.z.shape)
        log_q = model.posterior(batch).log_prob(z)
        value = (log_q.exp() * (model.log_joint(batch, z) - log_q)).sum(0)
        return Estimate(value.detach(), value)
