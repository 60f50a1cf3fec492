"""Hamiltonian Monte Carlo: a leapfrog trajectory, accepted or not."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vbench import Rng
from vbench.dynamics import Field, Point, leapfrog, log_normal
from vbench_hmc.kernels import Kernel, Move, Proposal, chosen

__all__ = ["HMC"]


class HMC(Kernel):
    r"""Fresh momentum, L leapfrog steps, accept with :math:`\min(1, p(z') N(v') / p(z) N(v))`.

    The step size moves until the mean acceptance is ``wanted``: it ascends
    :math:`(\mathrm{acceptance} - \mathrm{wanted}) \log \epsilon`.

    Args:
        leapfrog: L.
        step: initial step size.
        wanted: acceptance to adapt to.

    Source: Duane, Kennedy, Pendleton & Roweth (1987), Hybrid Monte Carlo, doi:10.1016/0370-2693(87)91197-X; Neal
    (2011), MCMC Using Hamiltonian Dynamics, arXiv:1206.1901.
    """

    def __init__(self, leapfrog: int, step: float, wanted: float) -> None:
        super().__init__()
        self.leapfrog, self.wanted = leapfrog, wanted
        self.log_step = nn.Parameter(torch.tensor(math.log(step)))

    def forward(self, at: Field, point: Point, rng: Rng) -> Move:
        """One transition of every chain."""
        v = rng.normal(*point.z.shape, dtype=point.z.dtype)
        return chosen(point, self.propose(at, point, v), rng)

    def propose(self, at: Field, point: Point, v: Tensor) -> Proposal:
        """The end of the trajectory that starts with momentum ``v [K, B, D]``."""
        end, u = leapfrog(at, point, v, self.log_step.detach().exp(), self.leapfrog)
        return Proposal(end, u, end.log_density + log_normal(u) - point.log_density - log_normal(v))

    def objective(self, start: Point, move: Move) -> Tensor:
        """``[K, B]``."""
        return (move.acceptance.detach() - self.wanted) * self.log_step
