"""What every flow shares: a normal base, invertible steps, and the sum of their log-determinants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Protocol

from annotated_types import Ge
from torch import Tensor

from vbench import Activation, Batch, DiagonalNormal, Draw, Encoder, Rng, Space, Trait, mlp

__all__ = ["Conditioner", "Context", "Flow", "FlowEncoder", "Hidden", "Latent", "Net", "Step", "Steps"]

Latent = Annotated[int, Ge(1), "number of latent variables"]
Hidden = Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the encoder's hidden layers"]
Net = Annotated[Activation, "between the layers of every net"]
Steps = Annotated[int, Ge(1), "steps of the flow"]
Context = Annotated[int, Ge(1), "numbers that the encoder hands to every step's net"]
Conditioner = Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers of every step's net"]

_OFFERS: Final = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED})


class Step(Protocol):
    """An invertible map of ``[K, B, D]``; the log-determinant ``[K, B]`` is that of ``push`` in both, nats."""

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One step away from the base: the image of ``z``, and the log-determinant at ``z``."""
        ...

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One step back: what ``z`` is the image of, and the log-determinant there."""
        ...


@dataclass(frozen=True)
class Flow:
    r"""A normal pushed through invertible steps, a density of latents ``[K, B, D]``.

    .. math:: z = f_T \circ \cdots \circ f_1 (z_0), \qquad
       \log q(z) = \log q_0(z_0) - \sum_t \log |\det \partial f_t / \partial z_{t-1}|

    Attributes:
        base: q_0, with parameters ``[B, D]``, or ``[1, D]`` where it is shared by the batch.
        steps: f_1 to f_T.
    """

    base: DiagonalNormal
    steps: Sequence[Step]

    def draw(self, rng: Rng, k: int) -> Draw:
        """k samples ``[K, B, D]``, differentiable in every parameter."""
        z, log_q, _ = self.base.draw(rng, k)
        for step in self.steps:
            z, log_det = step.push(z)
            log_q = log_q - log_det  # type: ignore[operator]
        return Draw(z, log_q)

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, D] -> [K, B]``, nats."""
        total = z.new_zeros(())
        for step in reversed(self.steps):
            z, log_det = step.pull(z)
            total = total + log_det
        return self.base.log_prob(z) - total


class FlowEncoder(Encoder):
    """An encoder whose net gives location and log scale of a normal, and ``more`` numbers for the flow's steps."""

    offers = _OFFERS

    def __init__(self, x: Space, latent: int, hidden: Sequence[int], activation: Activation, more: int) -> None:
        super().__init__()
        self.z = Space((latent,))
        self.net = mlp(x.size, hidden, 2 * latent + more, activation)

    def heads(self, batch: Batch) -> tuple[DiagonalNormal, Tensor]:
        """The normal, with parameters ``[B, D]``, and the rest ``[B, more]``."""
        raw = self.net(batch.x.flatten(1))
        latent = self.z.size
        loc, log_scale, rest = raw.split([latent, latent, raw.shape[-1] - 2 * latent], -1)
        return DiagonalNormal(loc, log_scale.exp()), rest
