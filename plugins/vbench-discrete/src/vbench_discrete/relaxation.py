"""What the relaxed, Taylor and straight-through methods share: discrete draws and the continuous ones behind them.

A relaxation knows one kind of latent. Its latent variable z is a differentiable function of logits and uniform
noise, a discrete draw is ``hard(z)``, a relaxed one ``soft(z, temperature)``. Shapes: logits ``[B, *Z]``, everything
that is drawn ``[K, B, *Z]``.

Source: Maddison, Mnih & Teh (2017), The Concrete Distribution, arXiv:1611.00712; Tucker et al. (2017), REBAR,
arXiv:1703.07370, appendix (conditional draws).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from vbench import Bernoulli, Categorical, Estimator, Space, Trait

__all__ = ["Binary", "DiscreteEstimator", "OneHot", "Relaxation", "event_sum", "over_event", "relaxation"]


def over_event(values: Tensor, like: Tensor) -> Tensor:
    """``[K, B]`` with ones appended, to multiply ``[K, B, *Z]``."""
    return values.reshape(*values.shape, *[1] * (like.dim() - values.dim()))


def event_sum(values: Tensor, start: int = 2) -> Tensor:
    """Sum over the event: ``[K, B, *Z] -> [K, B]``, or with ``start=1`` ``[B, *Z] -> [B]``."""
    return values.flatten(start).sum(start)


class Relaxation(ABC):
    """One kind of discrete latent: its density, and the continuous variable that its draws are cut from."""

    needs: frozenset[str]

    @abstractmethod
    def density(self, logits: Tensor) -> Bernoulli | Categorical:
        """The discrete density; relaxed values are scored by the same formula."""

    @abstractmethod
    def latent(self, logits: Tensor, u: Tensor) -> Tensor:
        """z of uniform noise ``u``; ``hard(z)`` has the discrete density (the same draw as the family's own)."""

    @abstractmethod
    def conditional(self, logits: Tensor, b: Tensor, v: Tensor) -> Tensor:
        """A draw of z given ``hard(z) = b``, from fresh uniform noise ``v``."""

    @abstractmethod
    def hard(self, z: Tensor) -> Tensor:
        """The discrete value of z, without gradient."""

    @abstractmethod
    def scaled(self, z: Tensor, temperature: Tensor | float) -> Tensor:
        """The relaxed draw before its last squashing, where its density is stable."""

    @abstractmethod
    def squash(self, y: Tensor) -> Tensor:
        """From ``scaled`` to the relaxed draw."""

    @abstractmethod
    def log_density(self, y: Tensor, logits: Tensor, temperature: float) -> Tensor:
        """Log density ``[K, B]`` of ``y = scaled(z, temperature)`` for z of these logits, nats."""

    @abstractmethod
    def pull(self, mean: Tensor, slope: Tensor) -> Tensor:
        """``slope`` times the Jacobian of the mean by the logits, taken where the mean is ``mean``."""

    def soft(self, z: Tensor, temperature: Tensor | float) -> Tensor:
        """The relaxed draw, ``hard(z)`` in the limit of temperature 0."""
        return self.squash(self.scaled(z, temperature))


class Binary(Relaxation):
    """Bernoulli latents: z is logistic about the logit, hard at zero, relaxed by a sigmoid."""

    needs = frozenset({Trait.LOGITS, Trait.RELAXABLE, Trait.latent("binary")})

    def density(self, logits: Tensor) -> Bernoulli:
        """Bernoulli."""
        return Bernoulli(logits)

    def latent(self, logits: Tensor, u: Tensor) -> Tensor:
        """``logits - logit(u)``: positive where ``u < p``."""
        return logits - u.log() + (-u).log1p()

    def conditional(self, logits: Tensor, b: Tensor, v: Tensor) -> Tensor:
        r"""With s = 2b - 1, :math:`s \big( \log(1 + (1 - v) e^{s\, l}) - \log v \big)`: no clamp at any logit."""
        sign = 2 * b - 1
        return sign * (functional.softplus(sign * logits + (-v).log1p()) - v.log())

    def hard(self, z: Tensor) -> Tensor:
        """One where z is positive."""
        return (z > 0).to(z.dtype)

    def scaled(self, z: Tensor, temperature: Tensor | float) -> Tensor:
        """``z / temperature``, the logit of the relaxed draw."""
        return z / temperature

    def squash(self, y: Tensor) -> Tensor:
        """The sigmoid."""
        return y.sigmoid()

    def log_density(self, y: Tensor, logits: Tensor, temperature: float) -> Tensor:
        """Logistic with location ``logits / temperature`` and scale ``1 / temperature``."""
        standard = logits - temperature * y
        return event_sum(math.log(temperature) + standard - 2 * functional.softplus(standard))

    def pull(self, mean: Tensor, slope: Tensor) -> Tensor:
        """``mean (1 - mean) slope``."""
        return mean * (1 - mean) * slope


class OneHot(Relaxation):
    """Categorical latents, one-hot in the last dimension: z is Gumbel about the log probabilities."""

    needs = frozenset({Trait.LOGITS, Trait.RELAXABLE, Trait.latent("categorical")})

    def density(self, logits: Tensor) -> Categorical:
        """Categorical."""
        return Categorical(logits)

    def latent(self, logits: Tensor, u: Tensor) -> Tensor:
        """Log probabilities plus Gumbel noise."""
        return logits.log_softmax(-1) - (-u.log()).log()

    def conditional(self, logits: Tensor, b: Tensor, v: Tensor) -> Tensor:
        """The largest is a standard Gumbel, the others are Gumbels cut off at it."""
        noise = (-v.log()).log()
        top = (b * noise).sum(-1, keepdim=True)
        below = torch.logaddexp(noise - logits.log_softmax(-1), top)
        return -torch.where(b > 0, top, below)

    def hard(self, z: Tensor) -> Tensor:
        """One-hot at the largest."""
        index = z.argmax(-1, keepdim=True)
        return (index == torch.arange(z.shape[-1], device=z.device)).to(z.dtype)

    def scaled(self, z: Tensor, temperature: Tensor | float) -> Tensor:
        """The logarithm of the relaxed draw."""
        return (z / temperature).log_softmax(-1)

    def squash(self, y: Tensor) -> Tensor:
        """The exponential."""
        return y.exp()

    def log_density(self, y: Tensor, logits: Tensor, temperature: float) -> Tensor:
        """ExpConcrete, Maddison et al. (2017), equation 26."""
        classes = logits.shape[-1]
        terms = logits.log_softmax(-1) - temperature * y
        each = terms.sum(-1) - classes * terms.logsumexp(-1)
        return event_sum(each + math.lgamma(classes) + (classes - 1) * math.log(temperature))

    def pull(self, mean: Tensor, slope: Tensor) -> Tensor:
        """``mean (slope - <mean, slope>)``."""
        return mean * (slope - (mean * slope).sum(-1, keepdim=True))


def relaxation(z: Space) -> Relaxation:
    """The relaxation of a latent space; a continuous one gets what it will then be refused for needing."""
    return OneHot() if z.support == "categorical" else Binary()


class DiscreteEstimator(Estimator):
    """An estimator for binary or categorical latents, whichever ``z`` is.

    Args:
        z: the latent space.
        k: samples per datum, averaged.
    """

    def __init__(self, z: Space, k: int) -> None:
        super().__init__()
        self.relaxation, self.k = relaxation(z), k
        self.needs = self.relaxation.needs
