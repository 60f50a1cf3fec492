"""What an estimator claims to estimate: bounds, expectations, and targets that are neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from vbench.types.values import Batch

__all__ = ["Atoms", "Bound", "Objective", "Parts", "Target"]


class Bound(Protocol):
    """A function of log weights, ``[K, B] -> [B]``, nats per datum."""

    @property
    def kind(self) -> Literal["lower", "upper", "none"]:
        """On which side of log p(x) its expectation lies."""
        ...

    @property
    def linear(self) -> bool:
        """Whether it is a mean of log weights."""
        ...

    @property
    def smooth(self) -> bool:
        """Whether it is twice differentiable in the log weights."""
        ...

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``."""
        ...


class Atoms(NamedTuple):
    """A distribution of latents as weighted points: E[f(z)] is the sum of exp(log_mass) f(z), also when differentiated.

    The discrete latents' states, or nodes of a quadrature that move with the distribution's parameters.
    """

    z: Tensor  # [S, B, *Z], or [S, 1, *Z] where data share them
    log_mass: Tensor  # [S, B] or [S, 1]
    log_prob: Tensor  # [S, B] or [S, 1] log density at the points, nats


@runtime_checkable
class Objective(Protocol):
    """What an estimator ascends where that is no function of log weights (beta-VAE, MMD): an expectation.

    An estimator declares it as its ``bound``. The judge asks for ``expectation`` at distributions that it knows
    exactly; a ValueError says where it has no exact value. ``linear`` is True where K only averages.
    """

    @property
    def kind(self) -> Literal["lower", "upper", "none"]:
        """On which side of log p(x) it lies."""
        ...

    @property
    def linear(self) -> bool:
        """Whether it is the same for every K."""
        ...

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """``[B]``, nats, under the posterior ``q`` and the prior ``p``; its mean over the batch is ascended."""
        ...


class Target(Protocol):
    """What an estimator's gradient estimates where it is that of no bound (reweighted wake-sleep).

    A field of log p(x, z) and log q(z | x) at draws of q: its gradient with the draws held fixed, averaged over
    them, is the target. It is ascended, as a surrogate is, and indifferent to the order of its K draws.
    """

    def __call__(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """``[K, B], [K, B] -> [B]``, nats; whatever only weighs is detached inside."""
        ...


@dataclass(frozen=True)
class Parts:
    """What an estimator's gradient estimates where each part of the model ascends a bound of its own, at its own K.

    Attributes:
        encoder, decoder, prior: the bound or objective of that part's gradient, and its K.
    """

    encoder: tuple[Bound | Objective, int]
    decoder: tuple[Bound | Objective, int]
    prior: tuple[Bound | Objective, int]
