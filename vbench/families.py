"""Probability families with exactly what the contract asks: ``draw``, ``log_prob``, ``mean``, ``sample``; vmappable.

One class serves as posterior (parameters ``[B, *Z]``), prior (``[1, *Z]``) and likelihood (``[K, B, *X]``): parameters
broadcast against values ``[K, B, *event]``, and everything from the third dimension on is the event. They exist because
``torch.distributions`` neither takes a generator nor runs under ``vmap`` with ``randomness="error"``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.nn import functional

from vbench.rng import Rng
from vbench.types import Draw

__all__ = ["Bernoulli", "Categorical", "DiagonalNormal", "NormalMixture"]


_LOG_ROOT_TWO_PI: Final = 0.5 * math.log(2 * math.pi)


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
        noise = rng.normal(k, *self.loc.shape, dtype=self.loc.dtype)
        # scored by the noise: the same derivative in loc and scale as log_prob(z), without the way there and back
        return Draw(torch.addcmul(self.loc, self.scale, noise), self._scored(noise, None))

    def sample(self, rng: Rng) -> Tensor:
        """One sample for each entry of ``loc``."""
        return self.loc + self.scale * rng.normal(*self.loc.shape, dtype=self.loc.dtype)

    def log_prob(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[K, B, *event] -> [K, B]``, nats."""
        return self._scored((_observed(z, mask) - self.loc) / self.scale, mask)

    def _scored(self, standard: Tensor, mask: Tensor | None) -> Tensor:
        """Log density from standardised values."""
        if mask is not None:
            return _sum_event(-0.5 * standard.square() - self.scale.log() - _LOG_ROOT_TWO_PI, mask)
        event, log_scale = standard.shape[2:], self.scale.log()
        if log_scale.shape[-len(event) :] != event:
            log_scale = log_scale.broadcast_to(torch.broadcast_shapes(log_scale.shape, event))  # type: ignore[no-untyped-call]
        constant = _sum_from(log_scale, log_scale.dim() - len(event)) + event.numel() * _LOG_ROOT_TWO_PI
        return _sum_event(standard.square()).mul(-0.5).sub(constant)

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
        z = _observed(z, mask)
        if peek_interpreter_stack() is not None:
            # binary_cross_entropy_with_logits falls apart under vmap into a dozen passes over memory; and the last bit
            # of softplus depends on where a number stands
            chosen = (z - 1) * self.logits
            return _sum_event(chosen, mask) + _sum_event(functional.logsigmoid(self.logits).expand_as(chosen), mask)
        logits, z = torch.broadcast_tensors(self.logits, z)  # type: ignore[no-untyped-call]
        if mask is None and z.dim() > 2 and not torch.is_grad_enabled():
            return _bernoulli_log_prob(logits.flatten(2), z.flatten(2))
        return -_sum_event(functional.binary_cross_entropy_with_logits(logits, z, reduction="none"), mask)

    def kl(self, other: Self) -> Tensor:
        """KL(self || other) in nats, ``[B]``, summed over the event."""
        own, theirs = self.logits, other.logits
        terms = self.mean * (own - theirs) + functional.softplus(theirs) - functional.softplus(own)
        return _sum_from(terms, 1)


def _bernoulli_log_prob(logits: Tensor, z: Tensor) -> Tensor:
    """``[K, B, D] -> [K, B]`` where no gradient is wanted: half the time of the loss that torch differentiates.

    z l - softplus(l) = log sigmoid(abs l) - (max(l, 0) - z l), and the logarithm of a product is the sum of logarithms.
    """
    factors = logits.abs().sigmoid_().reshape(*logits.shape[:2], -1, _factors(logits.shape[2], logits.dtype))
    score = factors.prod(3).log_().sum(2)
    del factors  # its memory, still cached, serves what follows
    score -= logits.clamp(min=0).addcmul_(logits, z.to(logits.dtype), value=-1).sum(2)
    return score


@functools.cache
def _factors(size: int, dtype: torch.dtype) -> int:
    """How many numbers of at least 1/2 to multiply: a divisor of ``size``, few enough for the product not to vanish."""
    most = int(-math.log2(torch.finfo(dtype).tiny))
    return max(count for count in range(1, most + 1) if size % count == 0)


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
        logits: ``[M]`` mixing weights, unnormalised, or ``[B, M]`` where each datum has its own.
        loc, scale: ``[M, D]``.
    """

    logits: Tensor
    loc: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        """E[z], ``[1, D]``, or ``[B, D]`` where each datum has its own weights."""
        return torch.atleast_2d(self.logits).softmax(-1) @ self.loc  # type: ignore[no-untyped-call,no-any-return]

    def draw(self, rng: Rng, k: int) -> Draw:
        """k ancestral samples ``[K, 1, D]``, or ``[K, B, D]``; the choice of component carries no gradient."""
        logits: Tensor = torch.atleast_2d(self.logits)  # type: ignore[no-untyped-call]
        chosen = Categorical(logits).draw(rng, k).z  # [K, 1, M]
        loc, scale = chosen @ self.loc, chosen @ self.scale
        z = loc + scale * rng.normal(*loc.shape, dtype=loc.dtype)
        return Draw(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, D] -> [K, B]``, nats."""
        # multiplied out, the squares are two matrix products: M differences for each z take eight times as long at
        # M = 500. What cancels in them is least when counted from the middle of the components, and of narrow ones
        # still more than single precision has
        middle = self.loc.mean(0).detach()
        away, loc = (z - middle).double(), (self.loc - middle).double()
        precision = self.scale.double().square().reciprocal()
        weighted = loc * precision
        squares = away.square() @ precision.mT - 2 * away @ weighted.mT + (loc * weighted).sum(-1)
        squares = squares.to(z.dtype)
        constant = self.scale.log().sum(-1) + self.loc.shape[-1] * _LOG_ROOT_TWO_PI
        return (self.logits.log_softmax(-1) - 0.5 * squares - constant).logsumexp(-1)
