"""Factorised categorical prior."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import nn

from vbench.families import Categorical
from vbench.types import Batch, Prior, Space, Trait

__all__ = ["CategoricalPrior"]


class CategoricalPrior(Prior):
    r"""Independent one-hot latents, uniform or with learned logits.

    :math:`p(z_d) = \mathrm{softmax}(\eta_d)`.

    Source: Jang, Gu & Poole (2017), Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144.
    """

    offers = frozenset({Trait.FACTORIZED_PRIOR})
    needs = frozenset({Trait.latent("categorical")})

    def __init__(self, z: Space, learned: Annotated[bool, "whether the logits are trained"] = True) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(1, *z.shape), requires_grad=learned)

    def forward(self, batch: Batch | None, model: Any) -> Categorical:
        """p(z) with logits ``[1, *Z]``."""
        return Categorical(self.logits)
