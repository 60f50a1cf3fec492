"""A factorised posterior of what is missing, with parameters of its own for each datum."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import nn

from vbench import Batch, Bernoulli, Encoder, Space, Trait
from vbench_completion.missing import Filled, completed, latent_space, offers, outputs, seen_of

__all__ = ["FillSVIEncoder"]


class FillSVIEncoder(Encoder):
    r"""Stochastic variational inference: a table of parameters for every entry of every datum.

    .. math:: q(x_{\mathrm{mis}} | x_{\mathrm{obs}}) = \prod_{i \in \mathrm{mis}} q(x_i; c\, t_{ni})

    Bernoulli where data are binary, Gaussian where they are real; t ``[n, ...]`` starts at zero and c makes it move so
    many times as far in a step of Adam as other parts. Nothing is amortised: before other data are measured, a new
    table is fitted to them. The latent is the whole datum ``[*X]``; observed entries of a draw are the data.

    Source: Hoffman, Blei, Wang & Paisley (2013), Stochastic Variational Inference, arXiv:1206.7051.
    """

    needs = frozenset({Trait.MISSING})

    def __init__(
        self,
        x: Space,
        n: int,
        pace: Annotated[float, Gt(0), "c, how much faster than other parts it moves"] = 10.0,
        refit_steps: Annotated[int, Ge(1), "steps of the fit to other data"] = 300,
        refit_lr: Annotated[float, Gt(0), "learning rate of that fit at its start"] = 0.1,
    ) -> None:
        super().__init__()
        self.x, self.z = x, latent_space(x)
        self.offers = offers(self.z)
        self.pace, self.refit_steps, self.refit_lr = pace, refit_steps, refit_lr
        self.table = nn.Parameter(torch.zeros(n, outputs(self.z)))

    def forward(self, batch: Batch, model: Any) -> Bernoulli | Filled:
        """q(z | x) of whole data, ``[B, *X]``."""
        return completed(self.z, self.pace * self.table[batch.index], *seen_of(batch))

    def refit(self, n: int) -> FillSVIEncoder:
        """A table for n other data."""
        return FillSVIEncoder(self.x, n, 1.0, self.refit_steps, self.refit_lr).to(self.table)
