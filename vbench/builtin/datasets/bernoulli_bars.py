"""Noisy bars, whose evidence is a sum over few binary latents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from vbench.builtin.datasets.tensors import TensorDataset, fingerprint, splits
from vbench.rng import Rng, derive
from vbench.types import Space

__all__ = ["BernoulliBars", "bernoulli_bars"]

_AT_ONCE: Final = 256  # data summed together: 20 MiB for the largest side


@dataclass(frozen=True, eq=False, kw_only=True)
class BernoulliBars(TensorDataset):
    """Draws of bars that are on or off, seen through pixels that flip.

    Attributes:
        rate: probability that a bar is on.
        flip: probability that a pixel is turned over.
    """

    rate: float
    flip: float

    def log_evidence(self, x: Tensor) -> Tensor:
        """Exact log p(x) of zeros and ones ``[B, side, side]`` -> ``[B]``, nats, float64.

        Every state of the row bars is visited; given one, column bars are independent and summed one by one.
        """
        pieces = [self._evidence(x[start : start + _AT_ONCE]) for start in range(0, len(x), _AT_ONCE)]
        return torch.cat(pieces)

    def _evidence(self, x: Tensor) -> Tensor:
        side = x.shape[-1]
        ones = (x > 0).to(torch.float64)
        kept, turned = math.log1p(-self.flip), math.log(self.flip)
        on, off = ones * kept + (1 - ones) * turned, ones * turned + (1 - ones) * kept
        rows = _states(side).to(x.device, torch.float64)  # [S, side]
        column_off = off.sum(1, keepdim=True) + rows @ (on - off) + math.log1p(-self.rate)  # [B, S, side]
        column_on = on.sum(1, keepdim=True) + math.log(self.rate)  # [B, 1, side]
        count = rows.sum(1)
        prior = count * math.log(self.rate) + (side - count) * math.log1p(-self.rate)
        return torch.logsumexp(prior + torch.logaddexp(column_off, column_on).sum(2), 1)


def _states(bits: int) -> Tensor:
    """Every state of some bits, ``[2^bits, bits]``, zeros and ones."""
    return torch.arange(2**bits)[:, None] >> torch.arange(bits) & 1


def bernoulli_bars(
    n: Annotated[int, Ge(1), "training rows; validation and test have a fifth each"] = 1000,
    side: Annotated[int, Ge(2), Le(10), "pixels of a side; there are 2 * side binary latents"] = 4,
    rate: Annotated[float, Gt(0), Lt(1), "probability that a bar is on"] = 0.25,
    flip: Annotated[float, Gt(0), Lt(0.5), "probability that a pixel is turned over"] = 0.05,
    seed: Annotated[int, Ge(0), "of the draw"] = 0,
) -> BernoulliBars:
    """Bernoulli bars: binary pictures of crossing bars, with the exact log evidence.

    Each row and each column of the picture is a bar, on with probability ``rate``; a pixel is one where a bar
    covers it, and is then turned over with probability ``flip``. There are 4^side states of the bars.

    Source: Foldiak (1990), "Forming sparse representations by local anti-Hebbian learning",
    doi:10.1007/BF02331346

    Args:
        n: training rows.
        side: pixels of a side.
        rate: of bars that are on.
        flip: of pixels.
        seed: of the draw.
    """
    rng = Rng(derive("bernoulli-bars", seed))
    held = max(1, n // 5)
    count = n + 2 * held
    bars = rng.uniform(count, 2 * side, dtype=torch.float64) < rate
    clean = bars[:, :side, None] | bars[:, None, side:]
    x = clean ^ (rng.uniform(count, side, side, dtype=torch.float64) < flip)
    return BernoulliBars(
        *splits(x.to(torch.uint8) * 255, n, held),
        x=Space((side, side), "binary"),
        digest=fingerprint("bernoulli-bars", 1, n, side, float(rate), float(flip), seed),
        binarization="none",
        rate=float(rate),
        flip=float(flip),
    )
