"""Proposals that see the past and the data of the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import Batch, DiagonalNormal, Space, StepEncoder, sequences
from vbench_sequence.parts import mean_of_step, net, normal, steps_of, width

__all__ = ["FilteringEncoder"]


class FilteringEncoder(StepEncoder):
    r"""Normal proposals from what the prior carries of the past and from the data of the step.

    :math:`q(z_t | z_{<t}, x_{\le t}) = N(\mu, \mathrm{diag}\, \sigma^2)(s_{t-1}, x_t)` with one net for all steps;
    without hidden layers the mean is affine, as the best proposal of a linear-Gaussian model is. Latents are real,
    ``[T, latent]``. Data are centred at the training mean of a step.

    Source: Chung, Kastner, Dinh, Goel, Courville & Bengio (2015), A Recurrent Latent Variable Model for Sequential
    Data, arXiv:1506.02216, equation 9; Maddison et al. (2017), Filtering Variational Objectives,
    arXiv:1705.09279.
    """

    mean: Tensor

    def __init__(
        self,
        x: Space,
        data: Tensor,
        latent: Annotated[int, Ge(1), "latent variables of a step"] = 32,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (32,),
    ) -> None:
        super().__init__()
        self.z = Space((steps_of(x), latent))
        self.register_buffer("mean", mean_of_step(data).flatten())
        self.net = net(latent + width(x), hidden, 2 * latent)

    def context(self, batch: Batch) -> Tensor:
        """The data of each step, centred, ``[B, T, X]``."""
        return sequences(batch.x, batch.mask).x.flatten(2) - self.mean

    def propose(self, seen: Tensor, context: Tensor, batch: Batch) -> DiagonalNormal:
        """q(z_t | past, x_t), parameters ``[K, B, latent]``."""
        return normal(self.net(torch.cat([seen, context.expand(*seen.shape[:-1], -1)], -1)))
