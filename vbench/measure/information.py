"""How much the latents tell of which datum they came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from vbench.types import Density

__all__ = ["identity_information"]

_BUDGET: Final = 2**23  # scalars of latents scored at a time


def identity_information(groups: Sequence[tuple[Density, Tensor]], limit: int) -> Tensor:
    r"""One-draw terms of the information between z and the datum that it was drawn for, ``[N]``, nats.

    .. math:: I_N = \frac1N \sum_i E_{q(z | x_i)}
       \Big[\log q(z | x_i) - \log \frac1N \sum_j q(z | x_j)\Big] \le \log N

    Float64. Their mean is unbiased for :math:`I_N`; it takes :math:`N^2` evaluations of the density.

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
    return log_q.diagonal() - log_q.logsumexp(1) + math.log(len(z))
