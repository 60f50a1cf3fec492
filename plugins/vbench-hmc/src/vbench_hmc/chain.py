"""Maximum likelihood by a Markov chain: the encoder starts it, the decoder learns where it ends."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vbench import ELBO, Batch, Estimate, Estimator, Model, Rng, Trait, frozen
from vbench.dynamics import field
from vbench_hmc.kernels import Kernel

__all__ = ["ChainEstimator"]


class ChainEstimator(Estimator):
    r"""The encoder's gradient is the ELBO's; decoder and prior learn at the end of a chain that the encoder starts.

    .. math:: \nabla_\phi \, E_q[\log p(x, z_0) - \log q(z_0 | x)], \qquad
       \nabla_\theta \, E[\log p(x, z_T)], \quad z_0 \sim q, \; z_t \sim \mathrm{kernel}(z_{t-1}; p(z | x))

    As T grows the latter becomes :math:`\nabla_\theta \log p(x)`; at any T it is the gradient of no bound. A
    parameter counts by what it does: one that the posterior and the prior share gets both.

    Args:
        kernel: a transition invariant for p(z | x); its own parameters move by its own objective.
        k: chains per datum.
        steps: T.
        lr: learning rate of the kernel's parameters.
    """

    needs = frozenset({Trait.PATHWISE, Trait.PROPER_WEIGHT, Trait.latent("real")})
    unbiased = False
    bound = ELBO()

    def __init__(self, kernel: Kernel, k: int, steps: int, lr: float) -> None:
        super().__init__()
        self.kernel, self.k, self.steps, self.lr = kernel, k, steps, lr

    @property
    def evaluations(self) -> int:
        """The bound, the chain and what it starts from, and the end once more for its gradient."""
        return self.k * (self.steps * self.kernel.leapfrog + 3)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``, the ELBO; surrogate ``[B]``, whose value means nothing but its gradient."""
        still = frozen(model)
        # a posterior that looks at the decoder must not train it
        posterior = Model(model.encoder, still.decoder, still.prior).posterior(batch)
        start = posterior.draw(rng, self.k)
        value = self.bound(still.log_joint(batch, start.z) - start.log_q)
        end, objective, acceptance = self._run(still, batch, start.z.detach(), rng)
        surrogate = value + model.log_joint(batch, end).mean(0) + objective
        return Estimate(value.detach(), surrogate, {"acceptance": acceptance})

    def _run(self, still: Any, batch: Batch, z: Tensor, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        """Ends of the chains ``[K, B, *Z]``, the kernel's objective and the mean acceptance, ``[B]`` each."""
        event = z.shape[2:]
        at = field(lambda flat: still.log_joint(batch, flat.reshape(*flat.shape[:2], *event)))
        point = at(z.flatten(2))
        objective, acceptance = torch.zeros_like(point.log_density[0]), torch.zeros_like(point.log_density[0])
        for _ in range(self.steps):
            move = self.kernel(at, point, rng)
            objective = objective + self.kernel.objective(point, move).mean(0) / self.steps
            acceptance = acceptance + move.acceptance.detach().mean(0) / self.steps
            point = move.point
        return point.z.reshape(z.shape), objective, acceptance
