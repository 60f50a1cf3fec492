"""The sequence that estimators are judged on where they need steps: short, and everything about it is a sum.

Three sequences of binary data ``[T, 2]`` with T = 3, the last one step shorter; one real latent a step; what was
observed comes back to the state. The noise of a proposal takes two values, so that a particle filter has finitely many
outcomes, resampled or not, while draws move with the parameters as any reparameterised ones do. ``log_prob`` is that
of a normal, a function like any other to the estimator, and the evidence is E[p-hat] over the same noise. Parameters
have rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from vbench.families import Bernoulli, DiagonalNormal
from vbench.model import Model
from vbench.oracles.state_space import Histories
from vbench.rng import Rng
from vbench.steps import State, StepDecoder, StepEncoder, StepPrior, sequences
from vbench.testing.models import Affine, randomized, rows
from vbench.types import Batch, Space, Trait

__all__ = ["ChainDecoder", "ChainEncoder", "ChainPrior", "TwoPoint", "chain", "chain_batch", "histories"]

NOISE: Final = (-1.1, 0.8)
PROBABILITY: Final = (0.4, 0.6)
_X: Final = Space((3, 2), "binary")
_Z: Final = Space((3, 1))


@dataclass(frozen=True)
class TwoPoint(DiagonalNormal):
    """``loc + scale * noise`` with noise of two values, scored as a normal."""

    def sample(self, rng: Rng) -> Tensor:
        """One draw for each entry of ``loc``."""
        u = rng.uniform(*self.loc.shape, dtype=self.loc.dtype)
        first = (u < PROBABILITY[0]).to(u.dtype)
        return self.loc + self.scale * (NOISE[0] * first + NOISE[1] * (1 - first))


class ChainPrior(StepPrior):
    """Normal steps around a bounded function of the last latent, and of the last data where they come back."""

    def __init__(self, x: Space, z: Space, feedback: bool = False) -> None:
        super().__init__()
        self.z, self.feedback = z, feedback
        size = z.shape[-1]
        self.loc = nn.Parameter(torch.zeros(1, size))
        self.net = Affine(size + (x.size // x.shape[0] if feedback else 0), size)
        self.log_scale = nn.Parameter(torch.zeros(1, size))

    def start(self, k: int, batch: Batch | None) -> State:
        """Where the first latent is expected."""
        loc = rows(self.loc, batch)
        return (loc.expand(k, len(loc) if batch is None else len(batch.x), -1),)

    def transition(self, state: State, batch: Batch | None) -> DiagonalNormal:
        """p(z_t | past)."""
        return DiagonalNormal(state[0], rows(self.log_scale, batch).exp().expand_as(state[0]))

    def advance(self, state: State, z: Tensor, x: Tensor | None, batch: Batch | None) -> State:
        """Where the next latent is expected."""
        if self.feedback:
            assert x is not None  # noqa: S101 - tells the type checker what feedback means
            z = torch.cat([z, x.flatten(2).expand(*z.shape[:2], -1)], -1)
        return (self.net(z, batch).tanh() + 0.4 * state[0],)


class ChainEncoder(StepEncoder):
    """Proposals affine in the past and in the data of the step."""

    def __init__(self, x: Space, z: Space, two_points: bool = False) -> None:
        super().__init__()
        self.z, self.two_points = z, two_points
        if two_points:  # no density, and its weights are proper under its own noise
            self.offers = frozenset({Trait.PATHWISE, Trait.AMORTIZED, Trait.STEP_PROPOSAL, Trait.PROPER_WEIGHT})
        self.net = Affine(z.shape[-1] + x.size // x.shape[0], 2 * z.shape[-1])

    def context(self, batch: Batch) -> Tensor:
        """The data themselves."""
        return sequences(batch.x, batch.mask).x.flatten(2)

    def propose(self, seen: Tensor, context: Tensor, batch: Batch) -> DiagonalNormal:
        """q(z_t | past, x_t)."""
        given = torch.cat([seen, context.expand(*seen.shape[:-1], -1)], -1)
        loc, log_scale = self.net(given, batch).chunk(2, -1)
        return (TwoPoint if self.two_points else DiagonalNormal)(loc, (log_scale - 0.3).exp())


class ChainDecoder(StepDecoder):
    """Bernoulli or normal data, affine in the latent and the past."""

    def __init__(self, x: Space, z: Space) -> None:
        super().__init__()
        self.shape, self.real = x.shape[1:], x.support == "real"
        self.net = Affine(2 * z.shape[-1], x.size // x.shape[0])

    def emit(self, z: Tensor, seen: Tensor, batch: Batch | None) -> Bernoulli | DiagonalNormal:
        """p(x_t | z_t, past)."""
        raw = self.net(torch.cat([z, seen], -1), batch).unflatten(2, self.shape)
        return DiagonalNormal(raw, torch.full_like(raw, 0.8)) if self.real else Bernoulli(raw)


def chain() -> Model:
    """Three steps, one latent each."""
    parts = ChainEncoder(_X, _Z, two_points=True), ChainDecoder(_X, _Z), ChainPrior(_X, _Z, feedback=True)
    return randomized(Model(*parts), 16, 1.2)


def chain_batch(size: int = 3) -> Batch:
    """Data that no model made; every third sequence ends a step before the others."""
    generator = torch.Generator().manual_seed(23)
    x = (torch.randn(size, *_X.shape, generator=generator, dtype=torch.float64) > 0.1).double()
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[2::3, -1] = False
    return Batch(x, torch.arange(size), mask=mask)


def histories(model: Model, batch: Batch) -> Histories:
    """Every draw of one particle, with what it is then worth: the rows of a step are samples of the next."""
    encoder, decoder, prior = model.encoder, model.decoder, model.prior
    assert isinstance(encoder, ChainEncoder)  # noqa: S101 - tell the type checker what the case is made of
    assert isinstance(decoder, ChainDecoder)  # noqa: S101
    assert isinstance(prior, ChainPrior)  # noqa: S101
    data, context, state = sequences(batch.x, batch.mask), encoder.context(batch), prior.start(1, batch)
    noise = torch.tensor(NOISE, dtype=torch.float64)[:, None, None]  # [S, 1, 1]
    log_mass, log_weight = [], []
    for t in range(batch.x.shape[1]):
        count = len(state[0])
        state = tuple(part.repeat_interleave(len(NOISE), 0) for part in state)
        q: Any = encoder.propose(state[0], context[:, t], batch)
        z = q.loc + q.scale * noise.repeat(count, 1, 1)
        log_alpha = prior.transition(state, batch).log_prob(z) - q.log_prob(z)
        log_alpha = data.kept(log_alpha + data.log_prob(decoder.emit(z, state[0], batch), t), t)
        log_weight.append(log_alpha.mT.reshape(-1, count, len(NOISE)))
        log_mass.append(torch.tensor(PROBABILITY, dtype=torch.float64).log().expand(1, count, -1))
        state = prior.advance(state, z, data.x[None, :, t], batch)
    return Histories(log_mass, log_weight)
