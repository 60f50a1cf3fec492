"""Factorised Bernoulli prior."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Gt, Lt
from torch import nn

from vbench.families import Bernoulli
from vbench.types import Batch, Prior, Space, Trait

__all__ = ["BernoulliPrior"]


class BernoulliPrior(Prior):
    r"""Independent binary latents with fixed or learned logits.

    :math:`p(z_d = 1) = \sigma(\eta_d)`.

    Source: Mnih & Gregor (2014), Neural Variational Inference and Learning in Belief Networks, arXiv:1402.0030.
    """

    offers = frozenset({Trait.FACTORIZED_PRIOR})
    needs = frozenset({Trait.latent("binary")})

    def __init__(
        self,
        z: Space,
        probability: Annotated[float, Gt(0), Lt(1), "initial probability of a one"] = 0.5,
        learned: Annotated[bool, "whether the logits are trained"] = True,
    ) -> None:
        super().__init__()
        start = torch.full((1, *z.shape), probability).logit()
        self.logits = nn.Parameter(start, requires_grad=learned)

    def forward(self, batch: Batch | None, model: Any) -> Bernoulli:
        """p(z) with logits ``[1, *Z]``."""
        return Bernoulli(self.logits)
