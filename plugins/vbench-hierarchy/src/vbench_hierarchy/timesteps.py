"""Which noise level is looked at, and how likely that was."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vbench import Rng

__all__ = ["Choice", "Timesteps"]


class Choice(NamedTuple):
    """Bins that were drawn."""

    bins: Tensor  # [K, B, M], one where it was drawn, zero elsewhere
    within: Tensor  # [K, B] where in its bin, even in (0, 1)
    log_mass: Tensor  # [K, B] log probability of the bin


class Timesteps(nn.Module):
    r"""M bins, drawn evenly, or as they deserve: so that the second moment of what is averaged is least.

    With :math:`v = f_j / \pi_j` for bin j, whose mean is the sum of all f whatever :math:`\pi` is,
    :math:`\nabla E[v^2] = -E[v^2 \nabla \log \pi_j]`. The K draws of a datum share one number and are spread evenly.

    Args:
        bins: M.
        sampling: ``uniform`` or ``learned``.
    """

    def __init__(self, bins: int, sampling: Literal["uniform", "learned"]) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(bins), requires_grad=sampling == "learned")

    def draw(self, rng: Rng, k: int, size: int) -> Choice:
        """For ``size`` data each; the mass is differentiable, the choice is not."""
        mass = self.raw.softmax(0)
        first = rng.uniform(1, size, dtype=mass.dtype)
        ladder = torch.arange(k, dtype=mass.dtype, device=mass.device)[:, None] / k
        u = (first + ladder) % 1
        below = mass.detach().cumsum(0) - mass.detach()
        # the last edge that is not above u: no bin is missed where the masses' sum is not quite one
        passed = (u[..., None] >= below).to(mass.dtype)  # [K, B, M]
        bins = passed - torch.cat([passed[..., 1:], torch.zeros_like(passed[..., :1])], -1)
        within = ((u - bins @ below) / (bins @ mass.detach())).clamp(0, 1)
        return Choice(bins, within, bins @ self.raw.log_softmax(0))

    def loss(self, terms: Tensor, choice: Choice) -> Tensor:
        """What has the gradient of the second moment of ``terms [K, B]``, for the bins alone: ``[B]``."""
        return -(terms.detach().square() * choice.log_mass).mean(0)
