r"""Models that unroll in time: what their parts do at a step, and whole trajectories made of it.

.. math:: p(x, z) = \prod_t p(z_t | z_{<t}, x_{<t})\, p(x_t | z_{\le t}, x_{<t}), \qquad
   q(z | x) = \prod_t q(z_t | z_{<t}, x)

Data are ``[B, T, *X]``, latents ``[K, B, T, D]``. The prior carries a state from step to step: a tuple of tensors
``[K, B, ...]`` of which the first, ``[K, B, D]``, is what encoder and decoder see of the past. A part defines its step;
what it offers whole trajectories (``draw``, ``log_prob``) follows, so that any estimator and any measure runs.

A sequence ends with its last observed entry. Beyond it z is zero with certainty: padding is worth nothing, whatever
stands there. Missing entries before the end are left out of the likelihood, and reach the state as zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vbench.rng import Rng
from vbench.types import Batch, Decoder, Draw, Encoder, Likelihood, Prior, Space, Trait

__all__ = ["Sequences", "State", "StepDecoder", "StepEncoder", "StepPrior", "sequences"]

State = tuple[Tensor, ...]


class Sequences(NamedTuple):
    """A batch as it is walked through."""

    x: Tensor  # [B, T, *X], zero where nothing was observed
    mask: Tensor | None  # [B, T, *X]
    alive: Tensor | None  # [B, T] up to the last observed entry; None: all

    @property
    def steps(self) -> int:
        """How many steps the longest sequence has."""
        return self.x.shape[1] if self.alive is None else int(self.alive.any(0).sum())

    def log_prob(self, likelihood: Likelihood, t: int) -> Tensor:
        """Log density of the observed entries of one step, ``[K, B]``, nats."""
        return likelihood.log_prob(self.x[:, t], None if self.mask is None else self.mask[:, t])

    def kept(self, values: Tensor, t: int) -> Tensor:
        """Values ``[K, B]`` or ``[K, B, D]`` of one step, zero where the sequence has ended."""
        if self.alive is None:
            return values
        alive = self.alive[:, t]
        return torch.where(alive if values.dim() == 2 else alive[:, None], values, 0)


def sequences(x: Tensor, mask: Tensor | None) -> Sequences:
    """Data ``[B, T, *X]`` and what of them was observed."""
    if mask is None:
        return Sequences(x, None, None)
    mask = mask.bool()
    seen = mask.flatten(2).any(2)
    alive = seen.flip(1).cumsum(1).flip(1) > 0
    return Sequences(torch.where(mask, x, 0), mask, alive)


class StepPrior(Prior):
    """p(z) of a model that unrolls in time, and the state that carries its past.

    Attributes:
        z: latents ``[T, D]``.
        feedback: whether the state takes in what was observed.
    """

    offers = frozenset({Trait.STEPS})
    z: Space
    feedback: bool = False

    def start(self, k: int, batch: Batch | None) -> State:
        """The state before the first step, ``[K, B, ...]``; B is 1 without a batch."""
        raise NotImplementedError(f"{type(self).__name__} must define start(k, batch)")

    def transition(self, state: State, batch: Batch | None) -> Likelihood:
        """p(z_t | z_<t, x_<t), of events ``[D]``."""
        raise NotImplementedError(f"{type(self).__name__} must define transition(state, batch)")

    def advance(self, state: State, z: Tensor, x: Tensor | None, batch: Batch | None) -> State:
        """The state after ``z [K, B, D]`` and ``x [K or 1, B, *X]`` (None where nothing comes back)."""
        raise NotImplementedError(f"{type(self).__name__} must define advance(state, z, x, batch)")

    def forward(self, batch: Batch | None, model: Any) -> _Walk:
        """p(z), given the data where they come back."""
        return _Walk(self, batch, model)


class StepEncoder(Encoder):
    """q(z | x), proposed step by step."""

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED, Trait.STEP_PROPOSAL})
    needs = frozenset({Trait.STEPS})

    def context(self, batch: Batch) -> Tensor:
        """What proposals see of the data, ``[B, T, C]``."""
        raise NotImplementedError(f"{type(self).__name__} must define context(batch)")

    def propose(self, seen: Tensor, context: Tensor, batch: Batch) -> Likelihood:
        """q(z_t | z_<t, x) from the prior's past ``[K, B, D]`` and the step's context ``[B, C]``."""
        raise NotImplementedError(f"{type(self).__name__} must define propose(seen, context, batch)")

    def forward(self, batch: Batch, model: Any) -> _Proposed:
        """q(z | x)."""
        return _Proposed(self, batch, model)


class StepDecoder(Decoder):
    """p(x | z), emitted step by step."""

    offers = frozenset({Trait.STEP_LIKELIHOOD})
    needs = frozenset({Trait.STEPS})

    def emit(self, z: Tensor, seen: Tensor, batch: Batch | None) -> Likelihood:
        """p(x_t | z_<=t, x_<t) from ``z [K, B, D]`` and the prior's past ``[K, B, D]``."""
        raise NotImplementedError(f"{type(self).__name__} must define emit(z, seen, batch)")

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> _Emitted:
        """p(x | z)."""
        return _Emitted(self, z, batch, model)


@dataclass(frozen=True)
class _Walk:
    """The prior of whole trajectories."""

    prior: StepPrior
    batch: Batch | None
    model: Any

    def draw(self, rng: Rng, k: int) -> Draw:
        """Trajectories ``[K, B, T, D]``; without a batch what comes back is drawn too."""
        prior, batch = self.prior, self.batch
        data = None if batch is None else sequences(batch.x, batch.mask)
        state, steps, total = prior.start(k, batch), [], torch.zeros(())
        for t in range(prior.z.shape[0]):
            p = prior.transition(state, batch)
            z = p.sample(rng) if data is None else data.kept(p.sample(rng), t)
            log_p = p.log_prob(z)
            total = total + (log_p if data is None else data.kept(log_p, t))
            steps.append(z)
            x = None if data is None else data.x[None, :, t]
            if prior.feedback and x is None:
                x = self.model.decoder.emit(z, state[0], batch).sample(rng)
            state = prior.advance(state, z, x, batch)
        return Draw(torch.stack(steps, 2), total)

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, T, D] -> [K, B]``, nats.

        Raises:
            ValueError: data come back, and none are given.
        """
        if self.batch is None and self.prior.feedback:
            raise ValueError("the density of z is known for given data only: this prior takes them in")
        data = None if self.batch is None else sequences(self.batch.x, self.batch.mask)
        states = _states(self.prior, z, None if data is None else data.x, self.batch)
        log_p = self.prior.transition(states, self.batch).log_prob(_in_time(z))
        return _summed(log_p, z, None if data is None else data.alive)


@dataclass(frozen=True)
class _Proposed:
    """The posterior of whole trajectories."""

    encoder: StepEncoder
    batch: Batch
    model: Any

    def draw(self, rng: Rng, k: int) -> Draw:
        """Trajectories ``[K, B, T, D]``, differentiable where proposals are."""
        batch, prior, data = self.batch, self.model.prior, sequences(self.batch.x, self.batch.mask)
        context, state = self.encoder.context(batch), prior.start(k, batch)
        steps, total = [], torch.zeros((), dtype=state[0].dtype, device=state[0].device)
        for t in range(data.steps):
            q = self.encoder.propose(state[0], context[:, t], batch)
            z = data.kept(q.sample(rng), t)
            total = total + data.kept(q.log_prob(z), t)
            state = prior.advance(state, z, data.x[None, :, t], batch)
            steps.append(z)
        steps += [torch.zeros_like(steps[0])] * (data.x.shape[1] - data.steps)
        return Draw(torch.stack(steps, 2), total)

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, T, D] -> [K, B]``, nats: zero density where z says that the sequence has another length."""
        data = sequences(self.batch.x, self.batch.mask)
        context = _in_time(self.encoder.context(self.batch)[None].expand(len(z), -1, -1, -1))
        seen = _states(self.model.prior, z, data.x, self.batch)[0]
        log_q = self.encoder.propose(seen, context, self.batch).log_prob(_in_time(z))
        total = _summed(log_q, z, data.alive)
        if data.alive is None:
            return total
        return torch.where(((z != 0).any(-1) == data.alive).all(-1), total, -torch.inf)


@dataclass(frozen=True)
class _Emitted:
    """The likelihood of whole trajectories."""

    decoder: StepDecoder
    z: Tensor
    batch: Batch | None
    model: Any

    @property
    def mean(self) -> Tensor:
        """E[x | z] ``[K, B, T, *X]``; what comes back are the data, or without a batch the means so far."""
        if self.batch is None:
            return self._run(lambda likelihood: likelihood.mean)
        mean = self._likelihood(sequences(self.batch.x, self.batch.mask).x).mean
        return mean.reshape(self.z.shape[2], *self.z.shape[:2], *mean.shape[2:]).movedim(0, 2)

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, T, *X] -> [K, B]``, nats."""
        data = sequences(x, mask)
        seen = None if data.mask is None else _in_time(self._repeated(data.mask))
        log_p = self._likelihood(data.x).log_prob(_in_time(self._repeated(data.x)), seen)
        return _summed(log_p, self.z, data.alive)

    def sample(self, rng: Rng) -> Tensor:
        """One sequence for each trajectory, ``[K, B, T, *X]``."""
        return self._run(lambda likelihood: likelihood.sample(rng))

    def _likelihood(self, x: Tensor) -> Likelihood:
        """Of all steps given the data before each, events ``[T * K, B, *X]``."""
        seen = _states(self.model.prior, self.z, x, self.batch)[0]
        return self.decoder.emit(_in_time(self.z), seen, self.batch)

    def _repeated(self, values: Tensor) -> Tensor:
        """``[B, ...] -> [K, B, ...]``."""
        return values[None].expand(len(self.z), *values.shape)

    def _run(self, choose: Callable[[Likelihood], Tensor]) -> Tensor:
        """Data chosen step by step, each with those before it."""
        prior, steps = self.model.prior, []
        state = _spread(prior.start(len(self.z), self.batch), self.z)
        for z in self.z.unbind(2):
            x = choose(self.decoder.emit(z, state[0], self.batch))
            steps.append(x)
            state = prior.advance(state, z, x, self.batch)
        return torch.stack(steps, 2)


def _states(prior: StepPrior, z: Tensor, x: Tensor | None, batch: Batch | None) -> State:
    """The state before each step of given trajectories, time before samples: ``[T * K, B, ...]``."""
    states = [_spread(prior.start(len(z), batch), z)]
    for t in range(z.shape[2] - 1):
        states.append(prior.advance(states[-1], z[:, :, t], None if x is None else x[None, :, t], batch))
    return tuple(torch.cat(parts) for parts in zip(*states, strict=True))


def _spread(state: State, z: Tensor) -> State:
    """A state that has the trajectories' samples and data."""
    return tuple(part.expand(*z.shape[:2], *part.shape[2:]) for part in state)


def _in_time(values: Tensor) -> Tensor:
    """``[K, B, T, ...] -> [T * K, B, ...]``: to a step's nets, steps are samples."""
    return values.movedim(2, 0).flatten(0, 1)


def _summed(log_p: Tensor, z: Tensor, alive: Tensor | None) -> Tensor:
    """``[T * K, B] -> [K, B]``, steps before the end only."""
    steps = log_p.reshape(z.shape[2], *z.shape[:2])
    return (steps if alive is None else torch.where(alive.mT[:, None], steps, 0)).sum(0)
