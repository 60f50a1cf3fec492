"""The linear-Gaussian state space model: its latents, its data, and the same in numbers for the Kalman filter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vbench import Batch, DiagonalNormal, Model, Space, State, StepDecoder, StepPrior
from vbench.oracles.kalman import LinearGaussianChain
from vbench_sequence.parts import latent_size, mean_of_step, width

__all__ = ["LinearGaussianChainDecoder", "LinearGaussianChainPrior", "chain_of"]


class LinearGaussianChainPrior(StepPrior):
    r"""Linear-Gaussian chain of real latents.

    :math:`z_1 \sim N(m, \mathrm{diag}\, p^2)`, :math:`z_t \sim N(A z_{t-1} + b, \mathrm{diag}\, q^2)`; A starts at 0.9
    times the identity. The state is what the next latent is expected to be, with its scale.

    Source: Kalman (1960), A New Approach to Linear Filtering and Prediction Problems, doi:10.1115/1.3662552.
    """

    def __init__(self, z: Space) -> None:
        super().__init__()
        self.z = z
        size = latent_size(z)
        self.linear = nn.Linear(size, size)
        self.loc = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(2, size))  # of the first latent, and of all others
        with torch.no_grad():
            self.linear.weight.copy_(0.9 * torch.eye(size))
            self.linear.bias.zero_()

    def start(self, k: int, batch: Batch | None) -> State:
        """Mean and scale of the first latent."""
        shape = k, 1 if batch is None else len(batch.x), -1
        return self.loc.expand(shape), self.log_scale[0].exp().expand(shape)

    def transition(self, state: State, batch: Batch | None) -> DiagonalNormal:
        """p(z_t | z_t-1)."""
        return DiagonalNormal(*state)

    def advance(self, state: State, z: Tensor, x: Tensor | None, batch: Batch | None) -> State:
        """Mean and scale of the next latent."""
        return self.linear(z), self.log_scale[1].exp().expand_as(z)


class LinearGaussianChainDecoder(StepDecoder):
    r"""Linear map of each step's latent with Gaussian noise.

    :math:`x_t \sim N(C z_t + d, \mathrm{diag}\, r^2)`; with the prior of the same name the evidence is the Kalman
    filter's. d starts at the training mean of a step.

    Source: Kalman (1960), A New Approach to Linear Filtering and Prediction Problems, doi:10.1115/1.3662552.
    """

    def __init__(self, x: Space, z: Space, data: Tensor) -> None:
        super().__init__()
        self.shape = x.shape[1:]
        self.linear = nn.Linear(latent_size(z), width(x))
        self.log_scale = nn.Parameter(torch.zeros(width(x)))
        with torch.no_grad():
            self.linear.bias.copy_(mean_of_step(data).flatten())

    def emit(self, z: Tensor, seen: Tensor, batch: Batch | None) -> DiagonalNormal:
        """p(x_t | z_t), parameters ``[K, B, *X]``."""
        loc = self.linear(z)
        shape = (*loc.shape[:-1], *self.shape)
        return DiagonalNormal(loc.reshape(shape), self.log_scale.exp().expand_as(loc).reshape(shape))


def chain_of(model: Model) -> LinearGaussianChain:
    """A model of these two parts in numbers; gradients reach its parameters.

    Raises:
        TypeError: it is made of others.
    """
    prior, decoder = model.prior, model.decoder
    if not (isinstance(prior, LinearGaussianChainPrior) and isinstance(decoder, LinearGaussianChainDecoder)):
        raise TypeError("not a linear-Gaussian chain")
    first, later = (2 * prior.log_scale).exp()
    return LinearGaussianChain(
        transition=prior.linear.weight,
        transition_covariance=later.diag(),
        transition_offset=prior.linear.bias,
        emission=decoder.linear.weight,
        emission_covariance=(2 * decoder.log_scale).exp().diag(),
        emission_offset=decoder.linear.bias,
        initial_mean=prior.loc,
        initial_covariance=first.diag(),
    )
