"""Stochastic variational inference: each datum has a posterior of its own, and no net."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from vbench import Batch, DiagonalNormal, Encoder, Space, Trait

__all__ = ["SVI"]


class SVI(Encoder):
    r"""A table with mean and log scale of every training datum.

    .. math:: q(z | x_i) = N\big(\mu_i, \mathrm{diag}\, \sigma_i^2\big), \qquad (\mu_i, \log \sigma_i) = c\, t_i

    where t ``[n, 2 latent]`` is indexed by ``batch.index``, starts at zero (a standard normal), and c makes it move so
    many times as far in a step of Adam as the other parts. Latents are real, ``[latent]``. Nothing is amortised: before
    other data are measured a new table is fitted to them, the model frozen, and what is measured is of that table.

    A row learns only when its datum is drawn, and Adam goes on moving it for some ten steps along its last gradient.
    With ``train: {inner: {part: encoder, steps: 20}}`` the rows of a batch are fitted before the decoder moves.

    ``train: {optimizer: natural-gradient}`` moves the rows along natural gradients instead, whatever c is: means by rho
    sigma^2 times their gradient, log scales by rho / 2 times theirs.

    Source: Hoffman, Blei, Wang & Paisley (2013), Stochastic Variational Inference, arXiv:1206.7051.
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.LOC_SCALE, Trait.KL})

    def __init__(
        self,
        n: int,
        latent: Annotated[int, Ge(1), "number of latent variables"] = 50,
        pace: Annotated[float, Gt(0), "c, how much faster than the other parts it moves"] = 10.0,
        refit_steps: Annotated[int, Ge(1), "steps of the fit to other data"] = 300,
        refit_lr: Annotated[float, Gt(0), "learning rate of that fit at its start"] = 0.05,
        natural_step: Annotated[float, Gt(0), "rho, of steps along natural gradients"] = 0.1,
    ) -> None:
        super().__init__()
        self.z = Space((latent,))
        self.pace, self.natural_step = pace, natural_step
        self.refit_steps, self.refit_lr = refit_steps, refit_lr
        self.table = nn.Parameter(torch.zeros(n, 2 * latent))

    def forward(self, batch: Batch, model: Any) -> DiagonalNormal:
        """q(z | x) with parameters ``[B, latent]``."""
        loc, log_scale = (self.pace * self.table[batch.index]).chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())

    def fisher(self) -> dict[nn.Parameter, Tensor]:
        r"""Of every row: :math:`c^2 / \sigma^2` for means, :math:`2 c^2` for log scales, ``[n, 2 latent]``."""
        log_scale = self.pace * self.table.detach().chunk(2, -1)[1]
        information = torch.cat([(-2 * log_scale).exp(), torch.full_like(log_scale, 2.0)], -1)
        return {self.table: self.pace**2 * information}

    def refit(self, n: int) -> SVI:
        """A table for n other data."""
        made = SVI(n, self.z.size, 1.0, self.refit_steps, self.refit_lr, self.natural_step)
        return made.to(self.table)
