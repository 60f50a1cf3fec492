"""How noise rises from level to level."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

__all__ = ["DENOISER", "DIFFUSED", "Schedule", "alpha_sigma", "between", "mixed"]

DIFFUSED: Final = "diffused"  # the encoder's latents are its signal(batch) [B, D] with more and more noise
DENOISER: Final = "denoiser"  # the prior has a schedule, and noise(z, gamma) tells the noise in z


class Schedule(nn.Module):
    r"""Log noise-to-signal ratios :math:`\gamma_0 < \cdots < \gamma_T` with signal and noise adding up to one.

    .. math:: \gamma_i = \gamma_0 + e^b (p_1 + \cdots + p_i), \quad p = \mathrm{softmax}(a), \qquad
       \alpha^2 = \sigma(-\gamma), \quad \sigma^2 = \sigma(\gamma)

    Args:
        steps: T.
        low, high: where the ends start.
        learned: whether ends and steps are trained.
    """

    def __init__(self, steps: int, low: float, high: float, learned: bool) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.tensor(low), requires_grad=learned)
        self.log_span = nn.Parameter(torch.tensor(math.log(high - low)), requires_grad=learned)
        self.raw = nn.Parameter(torch.zeros(steps), requires_grad=learned and steps > 1)

    def forward(self) -> Tensor:
        """``[T + 1]``."""
        risen = self.raw.softmax(0).cumsum(0)
        return self.start + self.log_span.exp() * torch.cat([torch.zeros_like(risen[:1]), risen])


def alpha_sigma(gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Scales of signal and noise, whose squares add up to one."""
    return (-gamma).sigmoid().sqrt(), gamma.sigmoid().sqrt()


def mixed(signal: Tensor, gamma: Tensor, noise: Tensor) -> Tensor:
    """Alpha signal + sigma noise, at ``gamma`` that broadcasts with both."""
    alpha, sigma = alpha_sigma(gamma)
    return alpha * signal + sigma * noise


def between(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    r"""Of levels s below t, :math:`\alpha_t / \alpha_s` and :math:`1 - e^{\gamma_s - \gamma_t}`, the share of t's noise
    that came after s.
    """
    return (0.5 * (logsigmoid(-t) - logsigmoid(-s))).exp(), -torch.expm1(s - t)
