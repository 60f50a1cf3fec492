"""Score-function (likelihood-ratio) gradients of any bound, with a control."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from vbench.estimators.controls import Zero
from vbench.rng import Rng
from vbench.types import Batch, Bound, Estimate, Estimator, Trait

__all__ = ["Score"]


class Score(Estimator):
    r"""Weigh each sample's score by what the sample adds to the bound.

    .. math:: \sum_k \big( l(\log w) - l(\log w;\, \log w_k := s_k) \big) \nabla_\phi \log q(z_k) + \nabla\, l(\log w)

    The stand-in :math:`s_k` comes from a control and never depends on :math:`z_k`. The second, direct term trains
    decoder and prior; on a linear bound its part in :math:`\phi` has mean zero and is left out. Unbiased for the
    bound at its K; an unnormalised density is served by leave-one-out on a linear bound, where its unknown constant
    cancels.

    Args:
        bound: function of the log weights. Where it is not linear, a fixed stand-in would depend on units: only
            an equivariant control (leave-one-out) is offered there.
        k: samples per datum; at least 2 for leave-one-out.
        control: a module of :mod:`vbench.estimators.controls`; None for no control.
        lr: learning rate of the control's parameters; None: the model's.
        normalize: divide the signal by its running standard deviation where that exceeds one (NVIL's variance
            normalisation). It rescales the encoder's gradient, so the estimate is no longer unbiased.

    Source: Williams (1992), Simple Statistical Gradient-Following Algorithms, doi:10.1007/BF00992696; Mnih & Rezende
    (2016), Variational Inference for Monte Carlo Objectives, arXiv:1602.06725.
    """

    def __init__(
        self,
        bound: Bound,
        k: int,
        control: nn.Module | None = None,
        lr: float | None = None,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.bound, self.k, self.lr = bound, k, lr
        self.control = control or Zero()
        name, least = type(self.control).__name__, getattr(self.control, "least", 1)
        equivariant = getattr(self.control, "equivariant", False)
        if k < least:
            raise ValueError(f"{name} needs k of {least} or more, not {k}")
        if not (bound.linear or equivariant):
            raise ValueError(f"{bound} is not linear: the score rule needs an equivariant control there, not {name}")
        exact = bound.linear and equivariant
        self.needs = frozenset({Trait.DENSITY, Trait.PROPER_WEIGHT if exact else Trait.NORMALIZED})
        self.unbiased = not normalize
        self.log_scale = nn.Parameter(torch.zeros(())) if normalize else None

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        bound: Any = self.bound
        posterior = model.posterior(batch)
        draw = posterior.draw(rng, self.k)
        z = draw.z.detach()
        score = posterior.log_prob(z)  # [K, B]
        log_w = model.log_joint(batch, z) - (draw.log_q.detach() if bound.linear else score)
        value = bound(log_w)
        stand_in, loss = self.control(log_w.detach(), batch)
        signal, scale_loss = self._scaled(_contribution(bound, log_w.detach(), stand_in))
        return Estimate(value.detach(), (signal * score).sum(0) + value - loss - scale_loss)

    def _scaled(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """The signal, normalised where asked, and the loss ``[B]`` that fits the scale."""
        if self.log_scale is None:
            return signal, torch.zeros_like(signal[0])
        fit = self.log_scale + 0.5 * signal.square().mean(0) * (-2 * self.log_scale).exp()
        return signal / self.log_scale.detach().exp().clamp(min=1), fit


def _contribution(bound: Any, log_w: Tensor, stand_in: Tensor) -> Tensor:
    """What each sample adds to the bound over its stand-in, ``[K, B]``."""
    own = torch.eye(log_w.shape[0], dtype=torch.bool, device=log_w.device)[..., None]
    swapped = torch.where(own, stand_in[None], log_w[None])  # [K swapped, K, B]
    contribution: Tensor = bound(log_w) - vmap(bound)(swapped)
    return contribution
