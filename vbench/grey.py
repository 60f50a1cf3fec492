"""What becomes of grey bytes: bits, levels or dequantised values; and what the parts are then told.

``dynamic`` draws a bit with probability x / 255 whenever a row is used in training, ``fixed`` draws it once,
``threshold`` is x >= 128, and ``static`` are bits that the source itself has drawn. ``levels`` keeps as many values as
there are, evenly spaced from 0 to 1; ``dequantized`` adds uniform noise of a level's width to them, anew in training as
``dynamic`` does, and scales to [0, 1]; ``none`` takes x / 255 for a real number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vbench.types import Space, Support

__all__ = [
    *("DRAWN", "FRESH", "MODES", "SUPPORTS", "dequantized", "expected", "levels_of", "notes", "on_levels", "seen"),
    "to_levels",
]

MODES: Final = ("dynamic", "fixed", "static", "threshold", "levels", "dequantized", "none")
DRAWN: Final = ("dynamic", "fixed", "dequantized")
FRESH: Final = ("dynamic", "dequantized")  # drawn anew in training
SUPPORTS: Final[Mapping[str, Support]] = {
    **dict.fromkeys(("dynamic", "fixed", "static", "threshold"), "binary"),
    "levels": "levels",
    "dequantized": "unit",
}
_BYTES: Final = 256


def seen(shape: tuple[int, ...], mode: str, levels: int = _BYTES) -> Space:
    """What the parts see of bytes that have so many values.

    >>> seen((8, 8), "levels", 17)
    Space(shape=(8, 8), support='levels', layers=(), levels=17)
    """
    support = SUPPORTS.get(mode, "unit")
    return Space(shape, support, levels=levels if mode in ("levels", "dequantized") else 0)


def notes(x: Space) -> str:
    """What has to be said of numbers in nats; empty where there is nothing to say."""
    if x.support != "unit" or not x.levels:
        return ""
    offset = x.size * math.log(x.levels)
    return f"{x.levels} levels, dequantised: log densities less {offset:.2f} nats bound the log probability of a datum"


def levels_of(x: Space) -> int:
    """How many values the bytes behind these data have."""
    return x.levels or _BYTES


def to_levels(x: Tensor, levels: int) -> Tensor:
    """The level of each byte, ``0 .. levels - 1``, as a byte."""
    return (x.to(torch.float32) * ((levels - 1) / 255)).round().to(torch.uint8)


def on_levels(x: Tensor, levels: int) -> Tensor:
    """Whether bytes are those levels, 255 / (levels - 1) apart but for rounding."""
    return (to_levels(x, levels).to(torch.float32) * (255 / (levels - 1))).round() == x


def dequantized(x: Tensor, levels: int, seed: int) -> Tensor:
    """``(level + u) / levels`` with u uniform on (0, 1), float32; it does not depend on the device."""
    words = np.random.PCG64DXSM(seed).random_raw(-(-x.numel() // 2)).astype("<u8", copy=False)
    # 24 bits are exact in a float32; the half keeps off both ends
    noise = ((words.view("<u4")[: x.numel()] >> 8).astype(np.float32) + 0.5) * 2**-24
    return (to_levels(x, levels) + torch.from_numpy(noise).view(x.shape).to(x.device)) / levels


def expected(x: Tensor, mode: str, levels: int) -> Tensor:
    """The mean, over what is drawn, of what the parts see of bytes."""
    if mode in ("threshold", "static"):
        return (x >= 128).float()
    if mode == "dequantized":
        return (to_levels(x, levels) + 0.5) / levels
    return to_levels(x, levels) / (levels - 1) if mode == "levels" else x.float() / 255
