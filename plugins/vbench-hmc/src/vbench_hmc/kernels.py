"""What Markov kernels have in common: a proposal, its acceptance, and the choice between the two places."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vbench import Rng
from vbench.dynamics import Field, Point, accepted

__all__ = ["Kernel", "Move", "Proposal", "chosen"]


class Proposal(NamedTuple):
    """Where a trajectory ends, and the logarithm of the ratio that it is accepted by."""

    point: Point
    v: Tensor  # [K, B, D]
    log_ratio: Tensor  # [K, B], nats: of the joint density at both ends, times the Jacobian


class Move(NamedTuple):
    """One transition."""

    point: Point  # where the chain is now, without a graph
    proposal: Proposal
    acceptance: Tensor  # [K, B], the probability


class Kernel(nn.Module):
    """A transition that leaves p(z) invariant, by a trajectory that is accepted or not (Metropolis-Hastings).

    Latents are flat, ``[K, B, D]``. ``leapfrog`` is the number of evaluations of the field that one transition costs.
    """

    leapfrog: int

    def forward(self, at: Field, point: Point, rng: Rng) -> Move:
        """One transition of every chain."""
        raise NotImplementedError

    def objective(self, start: Point, move: Move) -> Tensor:
        """What the kernel's own parameters ascend, ``[K, B]``; its gradient reaches nothing else."""
        raise NotImplementedError


def chosen(start: Point, proposal: Proposal, rng: Rng) -> Move:
    """Accept with probability min(1, ratio); what is not finite is never accepted."""
    taken, acceptance = accepted(proposal.log_ratio, rng)
    ends = zip(proposal.point, start, strict=True)
    kept = [torch.where(taken if new.dim() == 2 else taken[..., None], new, old).detach() for new, old in ends]
    return Move(Point(*kept), proposal, acceptance)
