"""The variational recurrent neural network: one recurrent net carries data and latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vbench import LSTM, Batch, Bernoulli, DiagonalNormal, Space, State, StepDecoder, StepPrior, Trait
from vbench_sequence.parts import latent_size, mean_of_step, net, normal, width

__all__ = ["VRNNDecoder", "VRNNPrior"]


class VRNNPrior(StepPrior):
    r"""Normal latents given the output of a recurrent net over all latents and observations before.

    :math:`h_t = f(h_{t-1}, \varphi_x(x_t), \varphi_z(z_t))`, :math:`p(z_t | z_{<t}, x_{<t}) = N(\mu, \mathrm{diag}\,
    \sigma^2)(h_{t-1})`. The net is an LSTM with as many outputs as a step has latents. Data are centred at the training
    mean of a step.

    Source: Chung, Kastner, Dinh, Goel, Courville & Bengio (2015), A Recurrent Latent Variable Model for Sequential
    Data, arXiv:1506.02216; latent size = hidden size as in Maddison et al. (2017), Filtering Variational Objectives,
    arXiv:1705.09279.
    """

    needs = frozenset({Trait.STEP_LIKELIHOOD})
    feedback = True
    mean: Tensor

    def __init__(self, x: Space, z: Space, data: Tensor) -> None:
        super().__init__()
        self.z = z
        size = latent_size(z)
        self.register_buffer("mean", mean_of_step(data).flatten())
        self.data = nn.Sequential(nn.Linear(width(x), size), nn.Tanh())
        self.latent = nn.Sequential(nn.Linear(size, size), nn.Tanh())
        self.recurrent = LSTM(2 * size, size)
        self.net = net(size, (size,), 2 * size)

    def start(self, k: int, batch: Batch | None) -> State:
        """Nothing yet: zeros."""
        return self.recurrent.start(k, 1 if batch is None else len(batch.x))

    def transition(self, state: State, batch: Batch | None) -> DiagonalNormal:
        """p(z_t | z_<t, x_<t)."""
        return normal(self.net(state[0]))

    def advance(self, state: State, z: Tensor, x: Tensor | None, batch: Batch | None) -> State:
        """The net's state after the step."""
        if x is None:
            raise ValueError("the recurrent net takes in the data: none are given")
        data = self.data(x.flatten(2) - self.mean)
        return self.recurrent(state, torch.cat([data.expand(*z.shape[:2], -1), self.latent(z)], -1))


class VRNNDecoder(StepDecoder):
    r"""Independent binary data of a step given its latent and the past.

    :math:`p(x_{ti} = 1 | z_{\le t}, x_{<t}) = \sigma(\mathrm{net}(\varphi_z(z_t), h_{t-1})_i)`. The output bias starts
    at the logit of the training mean of a step (clipped to [.001, .999]).

    Source: Chung, Kastner, Dinh, Goel, Courville & Bengio (2015), A Recurrent Latent Variable Model for Sequential
    Data, arXiv:1506.02216, equation 6.
    """

    needs = StepDecoder.needs | {Trait.data("binary")}

    def __init__(
        self,
        x: Space,
        z: Space,
        data: Tensor,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (32,),
    ) -> None:
        super().__init__()
        self.shape = x.shape[1:]
        size = latent_size(z)
        self.latent = nn.Sequential(nn.Linear(size, size), nn.Tanh())
        self.net = net(2 * size, hidden, width(x))
        last = self.net[-1]
        assert isinstance(last, nn.Linear)  # noqa: S101 - tells the type checker what a net ends with
        with torch.no_grad():
            last.bias.copy_(mean_of_step(data).flatten().clamp(0.001, 0.999).logit())

    def emit(self, z: Tensor, seen: Tensor, batch: Batch | None) -> Bernoulli:
        """p(x_t | z_t, past), logits ``[K, B, *X]``."""
        raw = self.net(torch.cat([self.latent(z), seen.expand(*z.shape[:2], -1)], -1))
        return Bernoulli(raw.reshape(*raw.shape[:-1], *self.shape))
