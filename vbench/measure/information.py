"""How much the latents tell of which datum they came from, and how all of them together are spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from vbench.types import Density

__all__ = ["aggregate_densities"]

_BUDGET: Final = 2**23  # scalars of latents scored at a time


def aggregate_densities(groups: Sequence[tuple[Density, Tensor]], limit: int) -> tuple[Tensor, Tensor]:
    r"""The density of one draw for each datum under its own posterior and under the mixture of all, each ``[N]``.

    .. math:: \log q(z_i | x_i), \qquad \log q_N(z_i) = \log \frac1N \sum_j q(z_i | x_j)

    Nats, float64, in :math:`N^2` evaluations of the density. The rate is the sum of two parts,

    .. math:: \frac1N \sum_i \mathrm{KL}(q(z | x_i) \,\|\, p(z)) = I_N + \mathrm{KL}(q_N \,\|\, p), \qquad
       I_N = \frac1N \sum_i E_{q(z | x_i)}[\log q(z | x_i) - \log q_N(z)] \le \log N

    and the means of what is returned, and of the prior's density, are unbiased for each.

    Args:
        groups: for each batch its posterior, and one draw ``[B, *Z]`` for each of its data.
        limit: N at most, the first data.

    Source: Hoffman & Johnson (2016), ELBO Surgery: Yet Another Way to Carve Up the Variational Evidence Lower
    Bound, NIPS workshop on Advances in Approximate Bayesian Inference.
    """
    z = torch.cat([draws for _, draws in groups])[:limit]
    blocks = []
    for posterior, draws in groups:
        every = [  # [n draws, B data]
            posterior.log_prob(some[:, None].expand(-1, *draws.shape)).double()
            for some in torch.split(z, max(1, _BUDGET // draws.numel()))
        ]
        blocks.append(torch.cat(every))
    log_q = torch.cat(blocks, 1)[:, : len(z)]
    return log_q.diagonal(), log_q.logsumexp(1) - math.log(len(z))
