"""The kernel of L2HMC: leapfrog steps that are scaled and shifted by nets, with a Jacobian to account for."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vbench import Rng
from vbench.dynamics import Field, Point, log_normal
from vbench_hmc.kernels import Kernel, Move, Proposal, chosen

__all__ = ["L2HMCKernel"]


class _Net(nn.Module):
    """Log scale S, log gradient scale Q and translation T, ``[K, B, D]`` each, all zero at first: that is HMC."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.of_a, self.of_b = nn.Linear(size, hidden), nn.Linear(size, hidden, bias=False)
        self.of_time, self.middle = nn.Linear(2, hidden, bias=False), nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, 3 * size)
        self.log_bound = nn.Parameter(torch.zeros(2, size))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, a: Tensor, b: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = torch.relu(self.of_a(a) + self.of_b(b) + self.of_time(time))
        s, q, t = self.output(torch.relu(self.middle(hidden))).chunk(3, -1)
        bound = self.log_bound.exp()
        return bound[0] * s.tanh(), bound[1] * q.tanh(), t


class L2HMCKernel(Kernel):
    r"""Leapfrog generalised by nets S, Q and T, trained to move far.

    Momentum, then position in two halves by a fixed mask m (each half moved by what the other holds), then momentum:

    .. math:: v \leftarrow v \odot e^{\frac{\epsilon}{2} S_v} + \tfrac{\epsilon}{2} \big( \nabla \log p(z) \odot
       e^{\epsilon Q_v} - T_v \big), \qquad
       z_m \leftarrow z_m \odot e^{\epsilon S_z} + \epsilon \big( v \odot e^{\epsilon Q_z} + T_z \big)

    The nets see z, the slope and the time (for v), or the other half, v and the time (for z). Half of the chains run
    the exact inverse, chosen by a coin. Accepted with :math:`\min(1, p(z') N(v') / p(z) N(v) \cdot |\mathrm{det}|)`,
    where the logarithm of the determinant is the sum of all scales. Invariant for p whatever the nets are.

    Trained on :math:`\delta A / \lambda^2 - \lambda^2 / (\delta A)`, with A the acceptance and :math:`\delta` the
    squared distance of the proposal.

    Args:
        size: D, number of latents.
        leapfrog: L.
        step: initial step size.
        hidden: width of the nets' two hidden layers.
        scale: lambda, the length of a move worth making.

    Source: Levy, Hoffman & Sohl-Dickstein (2018), Generalizing Hamiltonian Monte Carlo with Neural Networks,
    arXiv:1711.09268.
    """

    masks: Tensor

    def __init__(self, size: int, leapfrog: int, step: float, hidden: int, scale: float) -> None:
        super().__init__()
        self.leapfrog, self.scale = leapfrog, scale
        self.log_step = nn.Parameter(torch.tensor(math.log(step)))
        self.of_v, self.of_z = _Net(size, hidden), _Net(size, hidden)
        orders = torch.stack([torch.randperm(size) for _ in range(leapfrog)])
        self.register_buffer("masks", (orders < (size + 1) // 2).to(torch.get_default_dtype()))

    def forward(self, at: Field, point: Point, rng: Rng) -> Move:
        """One transition of every chain."""
        v = rng.normal(*point.z.shape, dtype=point.z.dtype)
        forwards = rng.uniform(*point.log_density.shape, dtype=point.z.dtype) < 0.5
        return chosen(point, self.propose(at, point, v, forwards), rng)

    def propose(self, at: Field, point: Point, v: Tensor, forwards: Tensor) -> Proposal:
        """The end of the trajectory from momentum ``v [K, B, D]``, or its inverse where ``forwards [K, B]`` is not."""
        ahead = forwards[..., None]
        end, u, log_volume = point, v, torch.zeros_like(v)
        for i in range(self.leapfrog):
            end, u, log_volume = self._step(at, end, u, log_volume, ahead, i)
        joint = end.log_density + log_normal(u) - point.log_density - log_normal(v)
        return Proposal(end, u, joint + log_volume.sum(-1))

    def _step(
        self, at: Field, point: Point, v: Tensor, log_volume: Tensor, ahead: Tensor, i: int
    ) -> tuple[Point, Tensor, Tensor]:
        step = self.log_step.exp()
        last = self.leapfrog - 1 - i
        time = torch.where(ahead, self._time(i, v), self._time(last, v))
        first = torch.where(ahead, self.masks[i], 1 - self.masks[last])  # the inverse undoes the second half first
        v, log_volume = self._kick(point, v, step, time, ahead, log_volume)
        z = point.z
        for mask in (first, 1 - first):
            s, q, t = self.of_z((1 - mask) * z, v, time)
            moved, scale = _coupled(z, step * s, step * (v * (step * q).exp() + t), ahead)
            z, log_volume = torch.where(mask > 0, moved, z), log_volume + mask * scale
        point = at(z)
        v, log_volume = self._kick(point, v, step, time, ahead, log_volume)
        return point, v, log_volume

    def _kick(
        self, point: Point, v: Tensor, step: Tensor, time: Tensor, ahead: Tensor, log_volume: Tensor
    ) -> tuple[Tensor, Tensor]:
        s, q, t = self.of_v(point.z, point.slope, time)
        v, scale = _coupled(v, step / 2 * s, step / 2 * (point.slope * (step * q).exp() - t), ahead)
        return v, log_volume + scale

    def _time(self, i: int, like: Tensor) -> Tensor:
        angle = 2 * math.pi * i / self.leapfrog
        return like.new_tensor([math.cos(angle), math.sin(angle)])

    def objective(self, start: Point, move: Move) -> Tensor:
        """``[K, B]``."""
        distance = (move.proposal.point.z - start.z).square().sum(-1)
        progress = distance * move.acceptance / self.scale**2 + 1e-4  # as in the authors' code: never zero
        return progress - 1 / progress


def _coupled(value: Tensor, log_scale: Tensor, shift: Tensor, ahead: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift, or undo it; with the log of what volumes are multiplied by."""
    log_scale = torch.where(ahead, log_scale, -log_scale)
    scale = log_scale.exp()
    return value * scale + torch.where(ahead, shift, -shift * scale), log_scale
