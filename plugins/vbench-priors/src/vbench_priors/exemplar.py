"""Exemplars of the training set as a prior."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from vbench import Batch, NormalMixture, Prior, Trait
from vbench_priors.memory import Memory

__all__ = ["ExemplarPrior"]


class ExemplarPrior(Prior):
    r"""A mixture of Gaussians around the codes of training data, all of one width.

    .. math:: p(z) = \frac1M \sum_m N\big(z; \mu(x_m), \sigma^2 I\big)

    with :math:`\mu` the mean of the encoder's own posterior and one learned :math:`\sigma`. In training a datum is
    left out of its own prior, by its index, else the mixture would learn each by heart; in evaluation none is left out.
    The M exemplars are drawn from the training set once, as intensities, and encoded anew at every step: the source
    draws others at each step, and keeps codes of all training data, some of them stale, to look for the nearest.
    Latents are real, ``[D]``. As with ``vamp``, the encoder's part in log p(z) is of the encoder's gradient.

    Source: Norouzi, Fleet & Norouzi (2020), Exemplar VAE: Linking Generative Models, Nearest Neighbor Retrieval, and
    Data Augmentation, arXiv:2004.04795.
    """

    needs = frozenset({Trait.POSTERIOR, Trait.LOC_SCALE, Trait.AMORTIZED, Trait.latent("real")})

    def __init__(
        self,
        data: Tensor,
        exemplars: Annotated[int, Ge(2), "M, training data in the mixture, at most"] = 500,
        scale: Annotated[float, Gt(0), "where the width starts"] = 1.0,
    ) -> None:
        super().__init__()
        self.memory = Memory(data, exemplars)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, batch: Batch | None, model: Any) -> NormalMixture:
        """p(z), in training without the datum itself."""
        loc = model.posterior(self.memory.batch).loc
        logits = loc.new_zeros(len(loc))
        if self.training and batch is not None:
            logits = logits.masked_fill(self.memory.among(batch), -math.inf)
        return NormalMixture(logits, loc, self.log_scale.exp().expand_as(loc))
