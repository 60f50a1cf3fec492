"""Semi-amortised inference: a net guesses, a few gradient steps refine, and training sees through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.func import grad

from vbench import Batch, DiagonalNormal, GaussianEncoder, Rng, Space, Trait

__all__ = ["SemiAmortizedEncoder"]

_KEY: Final = 0  # of the refinement's noise, where a batch comes without a key of its own


class SemiAmortizedEncoder(GaussianEncoder):
    r"""The Gaussian encoder's guess, moved up the ELBO of each datum.

    .. math:: \lambda_0 = \mathrm{net}(x), \qquad
       \lambda_{s+1} = \lambda_s + \eta\, \nabla_\lambda \tfrac1M \sum_m \log \frac{p(x, z_m)}{q(z_m; \lambda_s)},
       \quad z_m = \mu + \sigma \epsilon_m

    with :math:`\lambda = (\mu, \log \sigma)` and the last one, S steps on, that of the posterior. Everything is
    differentiated, the steps too: encoder, decoder and prior learn what makes the refined posterior good. The noise
    is drawn by the batch's key, new for each step and each batch, and is no part of what an estimator draws. Latents
    are real, ``[latent]``. A step takes M decoder evaluations besides those that an estimator declares, and their
    gradient; and since it asks the prior, the prior must not ask it.

    Source: Kim, Wiseman, Miller, Sontag & Rush (2018), Semi-Amortized Variational Autoencoders, arXiv:1802.02550 (with
    plain steps in place of momentum and clipping).
    """

    needs = frozenset({Trait.INDEPENDENT_PRIOR})

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of latent variables"] = 50,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        steps: Annotated[int, Ge(0), "S, steps on the net's guess"] = 4,
        rate: Annotated[float, Gt(0), "length of a step in gradients"] = 0.05,
        samples: Annotated[int, Ge(1), "M, draws of a step"] = 2,
    ) -> None:
        super().__init__(x, latent, hidden)
        self.steps, self.rate, self.samples = steps, rate, samples

    def forward(self, batch: Batch, model: Any) -> DiagonalNormal:
        """q(z | x) with parameters ``[B, latent]``."""
        first = super().forward(batch, model)
        rng = Rng(_KEY if batch.key is None else batch.key, batch.x.device)
        parameters = torch.cat([first.loc, first.scale.log()], -1)

        def elbo(parameters: Tensor, noise: Tensor) -> Tensor:
            loc, log_scale = parameters.chunk(2, -1)
            q = DiagonalNormal(loc, log_scale.exp())
            z = loc + q.scale * noise
            value: Tensor = (model.log_joint(batch, z) - q.log_prob(z)).mean(0).sum()
            return value

        for _ in range(self.steps):
            noise = rng.normal(self.samples, *first.loc.shape, dtype=first.loc.dtype)
            parameters = parameters + self.rate * grad(elbo)(parameters, noise)
        loc, log_scale = parameters.chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())
