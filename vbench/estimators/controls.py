"""Controls of the score rule: what stands in for a sample's own log weight.

A control returns a stand-in ``[K, B]`` whose k-th row never depends on sample k (that is what keeps the rule unbiased),
and a loss ``[B]`` for its own parameters, already detached from the model. One that moves with its input (a constant
added to every log weight is added to every stand-in) says ``equivariant = True``: no unit, and no unknown constant of
a density, can matter to it. ``least`` is the smallest K that it serves.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vbench.types import Batch, Space

__all__ = ["LearnedBaseline", "LeaveOneOut", "Zero"]


class Zero(nn.Module):
    """No control: the plain likelihood-ratio signal."""

    def forward(self, log_w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Zeros ``[K, B]`` and no loss ``[B]``."""
        return torch.zeros_like(log_w), torch.zeros_like(log_w[0])


class LeaveOneOut(nn.Module):
    """The mean of the other samples' log weights, ``sum_{j != k} log w_j / (K - 1)``; needs K >= 2.

    On a linear bound this is RLOO (Kool, van Hoof & Welling 2019); on IWAE it replaces w_k by the geometric mean of the
    others, VIMCO (Mnih & Rezende 2016).
    """

    equivariant = True
    least = 2

    def forward(self, log_w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Stand-ins ``[K, B]`` and no loss ``[B]``."""
        # not the sum less the own one: that lets the own sample in by rounding, and makes NaN of an infinite one
        own = torch.eye(log_w.shape[0], dtype=torch.bool, device=log_w.device)[..., None]
        others = torch.where(own, 0, log_w[None]).sum(1) / (log_w.shape[0] - 1)
        return others, torch.zeros_like(log_w[0])


class LearnedBaseline(nn.Module):
    """A net of the data, fitted to the log weight by least squares: ``c(x) [B]``, nats.

    The net predicts nats per scalar of x, so that its size does not depend on the size of the data.

    Args:
        x: the data space.
        hidden: width of its one hidden layer.

    Source: Mnih & Gregor (2014), Neural Variational Inference and Learning in Belief Networks, arXiv:1402.0030.
    """

    def __init__(self, x: Space, hidden: int) -> None:
        super().__init__()
        self.size = x.size
        self.net = nn.Sequential(nn.Linear(x.size, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, log_w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Stand-ins ``[K, B]``, the same for all samples of a datum, and the squared error ``[B]``."""
        per_scalar = self.net(batch.x.flatten(1))[:, 0]
        error = (log_w.detach() / self.size - per_scalar).square().mean(0)
        return (self.size * per_scalar.detach()).expand_as(log_w), error
