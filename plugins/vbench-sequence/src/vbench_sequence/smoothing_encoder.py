"""Proposals that see the past and all data from the step on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import LSTM, Batch, DiagonalNormal, Space, StepEncoder, sequences
from vbench_sequence.parts import mean_of_step, net, normal, steps_of, width

__all__ = ["SmoothingEncoder"]


class SmoothingEncoder(StepEncoder):
    r"""Normal proposals from what the prior carries of the past and from this and all later data.

    A recurrent net runs backwards from each sequence's end, :math:`b_t = f(b_{t+1}, x_t)`, and
    :math:`q(z_t | z_{<t}, x) = N(\mu, \mathrm{diag}\, \sigma^2)(s_{t-1}, b_t)`. The exact posterior of a state space
    model factorises in the same way. Latents are real, ``[T, latent]``.

    Source: Krishnan, Shalit & Sontag (2017), Structured Inference Networks for Nonlinear State Space Models,
    arXiv:1609.09869 (deep Kalman smoother); Maddison et al. (2017), Filtering Variational Objectives, arXiv:1705.09279.
    """

    mean: Tensor

    def __init__(
        self,
        x: Space,
        data: Tensor,
        latent: Annotated[int, Ge(1), "latent variables of a step"] = 32,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (32,),
        memory: Annotated[int, Ge(1), "outputs of the recurrent net"] = 32,
    ) -> None:
        super().__init__()
        self.z = Space((steps_of(x), latent))
        self.register_buffer("mean", mean_of_step(data).flatten())
        self.recurrent = LSTM(width(x), memory)
        self.net = net(latent + memory, hidden, 2 * latent)

    def context(self, batch: Batch) -> Tensor:
        """What the recurrent net says of each step and those after it, ``[B, T, memory]``."""
        data = sequences(batch.x, batch.mask)
        x = data.x.flatten(2) - self.mean
        state: tuple[Tensor, ...] = self.recurrent.start(len(x))
        steps = [torch.zeros_like(state[0])] * (x.shape[1] - data.steps)
        for t in reversed(range(data.steps)):
            # a sequence that has not begun, seen from its end, is at the start still
            state = tuple(data.kept(part[None], t)[0] for part in self.recurrent(state, x[:, t]))
            steps.append(state[0])
        return torch.stack(steps[::-1], 1)

    def propose(self, seen: Tensor, context: Tensor, batch: Batch) -> DiagonalNormal:
        """q(z_t | past, x_t and after), parameters ``[K, B, latent]``."""
        return normal(self.net(torch.cat([seen, context.expand(*seen.shape[:-1], -1)], -1)))
