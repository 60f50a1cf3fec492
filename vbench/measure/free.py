r"""A model whose parameters are what its encoder returns: the gradient that papers' toy problems measure.

The posterior of each datum stands as a parameter of its own (loc and log scale, or logits), decoder and prior are held:
the gradient of a batch mean by them has the trace :math:`\frac1{B^2} \sum_b \mathrm{tr\,Cov}(g_b)`, where
:math:`g_b` is the gradient of datum b by the parameters of its own posterior.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from vbench.families import Bernoulli, Categorical, DiagonalNormal
from vbench.model import Model, frozen
from vbench.types import Batch, Encoder

__all__ = ["NoFreePosteriorError", "free_model"]


class NoFreePosteriorError(ValueError):
    """Why a posterior has no parameters to measure by."""


class _Free(Encoder):
    """One posterior, whose parameters are its own; nothing else is in it."""

    coupled = True  # its rows belong to one batch, and data cannot be run one by one

    def __init__(self, like: Encoder, posterior: Any) -> None:
        super().__init__()
        self.z, self.offers = like.z, like.offers
        self.family = type(posterior)
        if self.family is DiagonalNormal:
            self.loc = _parameter(posterior.loc)
            self.log_scale = _parameter(posterior.scale.log())
        elif self.family in (Bernoulli, Categorical):
            self.logits = _parameter(posterior.logits)
        else:
            raise NoFreePosteriorError(f"the encoder returns {self.family.__name__}, with no loc and scale or logits")

    def forward(self, batch: Batch, model: Any) -> Any:
        if batch.key is None:  # the measured batch has one
            raise NoFreePosteriorError("a part asks for the posterior of other data")
        if self.family is DiagonalNormal:
            return DiagonalNormal(self.loc, self.log_scale.exp())
        return self.family(self.logits)


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone())


def free_model(model: nn.Module, batch: Batch) -> tuple[Model, Batch]:
    """The model at the posterior of ``batch``, with the batch that it is for.

    Raises:
        NoFreePosteriorError: the posterior has no such parameters, or the prior is made by the encoder.
    """
    held = frozen(cast(Model, model))
    batch = batch if batch.key is not None else batch._replace(key=torch.tensor(0))
    with torch.no_grad():
        free = Model(_Free(held.encoder, held.posterior(batch)), held.decoder, held.prior)
        free.prior_density(batch)  # tells whether it asks for the encoder
    return free, batch
