"""Learned mixture-of-Gaussians prior."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import nn

from vbench.families import NormalMixture
from vbench.types import Batch, Incompatible, Prior, Space, Trait

__all__ = ["GaussianMixturePrior"]


class GaussianMixturePrior(Prior):
    r"""Mixture of diagonal Gaussians with everything learned.

    :math:`p(z) = \sum_m \pi_m N(z; \mu_m, \mathrm{diag}\, \sigma_m^2)`. Real latents; the components' means start as
    independent normals, so that they can part.

    Source: Dilokthanakul et al. (2016), Deep Unsupervised Clustering with Gaussian Mixture VAEs, arXiv:1611.02648;
    Tomczak & Welling (2018), VAE with a VampPrior, arXiv:1705.07120, section 3 (its mixture baseline).
    """

    needs = frozenset({Trait.latent("real")})

    def __init__(
        self,
        z: Space,
        components: Annotated[int, Ge(1), "number of components"] = 10,
        spread: Annotated[float, Gt(0), "standard deviation of the initial means"] = 1.0,
    ) -> None:
        super().__init__()
        if len(z.shape) != 1:
            raise Incompatible(f"a mixture of Gaussians is of latents [D], not {list(z.shape)}")
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(spread * torch.randn(components, z.size))
        self.log_scale = nn.Parameter(torch.zeros(components, z.size))

    def forward(self, batch: Batch | None, model: Any) -> NormalMixture:
        """p(z), shared by the batch."""
        return NormalMixture(self.logits, self.loc, self.log_scale.exp())
