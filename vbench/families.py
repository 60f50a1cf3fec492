"""Probability families with exactly what the contract asks: ``draw``, ``log_prob``, ``mean``, ``sample``; vmappable.

One class serves as posterior (parameters ``[B, *Z]``), prior (``[1, *Z]``) and likelihood (``[K, B, *X]``): parameters
broadcast against values ``[K, B, *event]``, and everything from the third dimension on is the event. They exist because
``torch.distributions`` neither takes a generator nor runs under ``vmap`` with ``randomness="error"``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from vbench.rng import Rng
from vbench.types import Draw

__all__ = ["Bernoulli", "Categorical", "DiagonalNormal", "NormalMixture"]


def _sum_event(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sum everything but samples and batch, observed entries only: ``[K, B, *event] -> [K, B]``."""
    if mask is not None:
        values = torch.where(mask.bool(), values, 0)
    return _sum_from(values, 2)


def _sum_from(values: Tensor, start: int) -> Tensor:
    """Sum the dimensions from ``start`` on, of which there are none for a scalar event."""
    return values.flatten(start).sum(start) if values.dim() > start else values


def _observed(z: Tensor, mask: Tensor | None) -> Tensor:
    """Zero where unobserved: whatever stands there, often NaN, passes through the gradient of a masked sum."""
    return z if mask is None else torch.where(mask.bool(), z, 0)


@dataclass(frozen=True)
class DiagonalNormal:
    """Independent normals; draws are differentiable in ``loc`` and ``scale``.

    Attributes:
        loc, scale: ``[..., B, *event]``.
    """

    loc: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        """E[z], the shape of ``loc``."""
        return self.loc

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, B, *event]`` by ``loc + scale * noise``."""
        z = self.loc + self.scale * rng.normal(k, *self.loc.shape, dtype=self.loc.dtype)
        return Draw(z, self.log_prob(z))

    def sample(self, rng: Rng) -> Tensor:
        """One sample for each entry of ``loc``."""
        return self.loc + self.scale * rng.normal(*self.loc.shape, dtype=self.loc.dtype)

    def log_prob(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[K, B, *event] -> [K, B]``, nats."""
        standard = (_observed(z, mask) - self.loc) / self.scale
        return _sum_event(-0.5 * standard.square() - self.scale.log() - 0.5 * math.log(2 * math.pi), mask)

    def kl(self, other: Self) -> Tensor:
        """KL(self || other) in nats, ``[B]``, summed over the event."""
        ratio = (self.scale / other.scale).square()
        shift = ((self.loc - other.loc) / other.scale).square()
        return _sum_from(0.5 * (ratio + shift - 1 - ratio.log()), 1)


@dataclass(frozen=True)
class Bernoulli:
    """Independent binary variables in {0, 1}.

    Attributes:
        logits: ``[..., B, *event]``.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """P(z = 1), the shape of ``logits``."""
        return self.logits.sigmoid()

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, B, *event]``; no gradient flows through them."""
        u = rng.uniform(k, *self.logits.shape, dtype=self.logits.dtype)
        z = (u < self.mean.detach()).to(self.logits.dtype)
        return Draw(z, self.log_prob(z))

    def sample(self, rng: Rng) -> Tensor:
        """One sample for each logit."""
        u = rng.uniform(*self.logits.shape, dtype=self.logits.dtype)
        return (u < self.mean.detach()).to(self.logits.dtype)

    def log_prob(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[K, B, *event] -> [K, B]``, nats; relaxed values in between are scored by the same formula."""
        # not binary_cross_entropy_with_logits: under vmap it falls apart into a dozen passes over memory; and not
        # softplus, whose last bit depends on where a number stands in memory
        chosen = (_observed(z, mask) - 1) * self.logits
        every = functional.logsigmoid(self.logits).expand_as(chosen)
        return _sum_event(chosen, mask) + _sum_event(every, mask)

    def kl(self, other: Self) -> Tensor:
        """KL(self || other) in nats, ``[B]``, summed over the event."""
        own, theirs = self.logits, other.logits
        terms = self.mean * (own - theirs) + functional.softplus(theirs) - functional.softplus(own)
        return _sum_from(terms, 1)


@dataclass(frozen=True)
class Categorical:
    """Independent one-hot variables; the last event dimension holds the classes.

    Attributes:
        logits: ``[..., B, *event, C]``, unnormalised.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """Class probabilities, the shape of ``logits``."""
        return self.logits.softmax(-1)

    def _sample(self, rng: Rng, shape: tuple[int, ...]) -> Tensor:
        noise = -(-rng.uniform(*shape, dtype=self.logits.dtype).log()).log()
        index = (self.logits.detach() + noise).argmax(-1, keepdim=True)
        # not functional.one_hot: it reads its input's values, so it does not run under vmap
        return (index == torch.arange(self.logits.shape[-1], device=index.device)).to(self.logits.dtype)

    def draw(self, rng: Rng, k: int) -> Draw:
        """k one-hot samples ``[K, B, *event, C]`` by the Gumbel maximum; no gradient flows through them."""
        z = self._sample(rng, (k, *self.logits.shape))
        return Draw(z, self.log_prob(z))

    def sample(self, rng: Rng) -> Tensor:
        """One one-hot sample for each variable."""
        return self._sample(rng, tuple(self.logits.shape))

    def log_prob(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[K, B, *event, C] -> [K, B]``, nats; ``mask`` has no class dimension."""
        z = _observed(z, None if mask is None else mask[..., None])
        return _sum_event((self.logits.log_softmax(-1) * z).sum(-1), mask)

    def kl(self, other: Self) -> Tensor:
        """KL(self || other) in nats, ``[B]``, summed over the variables."""
        own, theirs = self.logits.log_softmax(-1), other.logits.log_softmax(-1)
        return _sum_from((own.exp() * (own - theirs)).sum(-1), 1)


@dataclass(frozen=True)
class NormalMixture:
    """A mixture of M diagonal normals over one flat event, shared by the batch.

    Attributes:
        logits: ``[M]`` mixing weights, unnormalised.
        loc, scale: ``[M, D]``.
    """

    logits: Tensor
    loc: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        """E[z], ``[1, D]``."""
        return (self.logits.softmax(0)[:, None] * self.loc).sum(0, keepdim=True)

    def draw(self, rng: Rng, k: int) -> Draw:
        """k ancestral samples ``[K, 1, D]``; the choice of component carries no gradient."""
        chosen = Categorical(self.logits[None]).draw(rng, k).z  # [K, 1, M]
        loc, scale = chosen @ self.loc, chosen @ self.scale
        z = loc + scale * rng.normal(*loc.shape, dtype=loc.dtype)
        return Draw(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, D] -> [K, B]``, nats."""
        components = DiagonalNormal(self.loc, self.scale)
        standard = (z[:, :, None] - components.loc) / components.scale
        terms = -0.5 * standard.square() - components.scale.log() - 0.5 * math.log(2 * math.pi)
        return (self.logits.log_softmax(0) + terms.sum(-1)).logsumexp(-1)
