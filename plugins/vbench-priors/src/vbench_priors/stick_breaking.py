"""Stick-breaking prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor, nn

from vbench import Batch, Draw, Prior, Rng, Space, Trait
from vbench_priors.sticks import log_complement, shares, weights

__all__ = ["BrokenStick", "StickBreakingPrior"]


@dataclass(frozen=True)
class BrokenStick:
    """Weights whose shares are independent Beta(1, concentration).

    Attributes:
        log_concentration: ``[1, 1]``.
        count: D, number of shares.
    """

    log_concentration: Tensor
    count: int

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, 1, D + 1]``."""
        u = rng.uniform(k, 1, self.count, dtype=self.log_concentration.dtype)
        log_rest = u.log() * (-self.log_concentration).exp()
        z = weights(log_complement(log_rest), log_rest)
        return Draw(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, D + 1] -> [K, B]``, nats, by the volume of the first D weights."""
        _, log_rest, log_volume = shares(z)
        log_a = self.log_concentration
        return (log_a + (log_a.exp() - 1) * log_rest).sum(-1) - log_volume


class StickBreakingPrior(Prior):
    r"""Weights that sum to one: each takes a share of what those before it have left.

    .. math:: \pi_k = v_k \prod_{j<k} (1 - v_j), \qquad v_k \sim \mathrm{Beta}(1, \alpha)

    The last weight takes all that is left, which cuts the endless stick short. Latents are weights on the simplex,
    ``[D + 1]`` for D shares, in double precision whatever the model's is: single holds no more than e^-87 of a stick.
    The density is by the volume of the first D, and NaN where the stick is used up before the last share (e^-708). No
    KL in closed form is offered: the source's is an endless series, cut off; sampled bounds need none.

    Source: Nalisnick & Smyth (2017), Stick-Breaking Variational Autoencoders, arXiv:1605.06197; Sethuraman (1994), A
    Constructive Definition of Dirichlet Priors, Statistica Sinica 4.
    """

    needs = frozenset({Trait.latent("simplex")})

    def __init__(
        self,
        z: Space,
        concentration: Annotated[float, Gt(0), "alpha; more of it, more even weights"] = 5.0,
        learned: Annotated[bool, "whether it is trained"] = False,
    ) -> None:
        super().__init__()
        self.count = z.size - 1
        self.log_concentration = nn.Parameter(torch.full((1, 1), math.log(concentration)), requires_grad=learned)

    def forward(self, batch: Batch | None, model: Any) -> BrokenStick:
        """p(z), shared by the batch."""
        return BrokenStick(self.log_concentration.double(), self.count)
