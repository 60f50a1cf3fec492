"""The reverse model: what the noise was, told from where it led."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vbench import DiagonalNormal, Space

__all__ = ["ReverseModel"]


class ReverseModel(nn.Module):
    r"""Diagonal normal over the noise of one transition, given the data and where the transition ended.

    .. math:: r(u | x, z) = N(u; \mu(x, z), \mathrm{diag}\, \sigma^2(x, z))

    One hidden layer. It starts as the standard normal, which the noise of a short transition nearly follows.

    Args:
        x: data space.
        latent: number of latents.
        hidden: width of the hidden layer.

    Source: Salimans, Kingma & Welling (2015), Markov Chain Monte Carlo and Variational Inference, arXiv:1410.6460.
    """

    def __init__(self, x: Space, latent: int, hidden: int) -> None:
        super().__init__()
        self.of_x = nn.Linear(x.size, hidden)
        self.of_z = nn.Linear(latent, hidden, bias=False)
        self.output = nn.Linear(hidden, 2 * latent)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, z: Tensor) -> DiagonalNormal:
        """r(u | x, z) for ``x [B, *X]`` and ``z [K, B, D]``, with parameters ``[K, B, D]``."""
        hidden = torch.tanh(self.of_x(x.flatten(1)) + self.of_z(z))
        loc, log_scale = self.output(hidden).chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())
