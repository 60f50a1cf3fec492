"""Factorised posteriors of whole data in which what is observed is certain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from vbench import Batch, Bernoulli, DiagonalNormal, Draw, Incompatible, Rng, Space, Trait

__all__ = ["Filled", "completed", "latent_space", "offers", "outputs", "seen_of"]

_CERTAIN: Final = 1000.0  # a logit whose probability is exactly one, in any precision


@dataclass(frozen=True)
class Filled:
    """Independent normals where nothing was observed, and what was observed elsewhere.

    Densities are of the missing entries alone.

    Attributes:
        base: of all entries, ``[B, *X]``.
        x: data, zero where missing.
        seen: which are not.
    """

    base: DiagonalNormal
    x: Tensor
    seen: Tensor

    @property
    def mean(self) -> Tensor:
        """``[B, *X]``."""
        return torch.where(self.seen, self.x, self.base.loc)

    def draw(self, rng: Rng, k: int) -> Draw:
        """``[K, B, *X]``, differentiable in the missing entries' parameters."""
        z = torch.where(self.seen, self.x, self.base.draw(rng, k).z)
        return Draw(z, self.base.log_prob(z, ~self.seen))

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, *X] -> [K, B]``, nats; minus infinity where an observed entry is another."""
        agree = ((z == self.x) | ~self.seen).flatten(2).all(2)
        return torch.where(agree, self.base.log_prob(z, ~self.seen), -math.inf)


def latent_space(x: Space) -> Space:
    """Whole data, as latents: bits, or real numbers.

    Raises:
        Incompatible: the data are neither.
    """
    if x.support not in ("binary", "real", "unit"):
        raise Incompatible(f"what is missing is binary or real here, not {x.support}")
    return Space(x.shape, "binary" if x.support == "binary" else "real")


def offers(z: Space) -> frozenset[str]:
    """What these posteriors can do."""
    return frozenset({Trait.DENSITY, Trait.NORMALIZED, Trait.LOGITS if z.support == "binary" else Trait.PATHWISE})


def outputs(z: Space) -> int:
    """Parameters for each datum: logits, or means and log scales."""
    return z.size * (1 if z.support == "binary" else 2)


def seen_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Data ``[B, *X]``, zero where missing, and what was observed; all of it where there is no mask."""
    if batch.mask is None:
        return batch.x, torch.ones_like(batch.x, dtype=torch.bool)
    seen = batch.mask.bool()
    return torch.where(seen, batch.x, 0), seen


def completed(z: Space, raw: Tensor, x: Tensor, seen: Tensor) -> Bernoulli | Filled:
    """The posterior of parameters ``raw [B, outputs]``."""
    if z.support == "binary":
        return Bernoulli(torch.where(seen, (2 * x - 1) * _CERTAIN, raw.unflatten(1, z.shape)))
    loc, log_scale = (part.unflatten(1, z.shape) for part in raw.chunk(2, 1))
    return Filled(DiagonalNormal(loc, log_scale.exp()), x, seen)
