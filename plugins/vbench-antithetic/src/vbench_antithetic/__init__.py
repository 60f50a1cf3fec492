"""The reparameterised ELBO with mirrored noise."""

from typing import Annotated

import torch
from annotated_types import Ge, MultipleOf

from vbench import ELBO, Estimate, Estimator, Trait, hookimpl


class Antithetic(Estimator):
    r"""ELBO by the reparameterisation trick with antithetic pairs.

    Noise comes in pairs :math:`\epsilon, -\epsilon`: unbiased for the ELBO, and what is odd in the noise cancels.

    Source: Hammersley & Morton (1956), A new Monte Carlo technique: antithetic variates, doi:10.1017/S0305004100031455.
    """

    needs = frozenset({Trait.LOC_SCALE, Trait.DENSITY, Trait.NORMALIZED})
    unbiased = True
    bound = ELBO()

    def __init__(self, k: Annotated[int, Ge(2), MultipleOf(2), "samples per datum, in mirrored pairs"] = 2) -> None:
        super().__init__()
        self.k = k

    def forward(self, model, batch, rng):
        """Value ``[B]`` and surrogate ``[B]``."""
        q = model.posterior(batch)
        noise = rng.normal(self.k // 2, *q.loc.shape, dtype=q.loc.dtype)
        z = q.loc + q.scale * torch.cat([noise, -noise])  # [K, B, *Z]
        value = self.bound(model.log_joint(batch, z) - q.log_prob(z))
        return Estimate(value.detach(), value)


@hookimpl
def vbench_estimators():
    """What this package registers."""
    return {"antithetic": Antithetic}
