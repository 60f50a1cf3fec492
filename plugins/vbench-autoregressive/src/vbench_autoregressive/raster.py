"""Binary images, pixel after pixel, row after row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from vbench import Bernoulli, Incompatible, Rng
from vbench_autoregressive.gated import GatedStack

__all__ = ["RasterBernoulli"]


@dataclass(frozen=True)
class RasterBernoulli:
    r"""Each pixel a Bernoulli variable given those before it: :math:`\prod_i p(x_i | x_{<i}, z)`.

    Attributes:
        stack: gives the logits, but for ``bias``.
        bias: of each pixel, ``[H, W]``.
        condition: of each sample, ``[K, B, M, H, W]`` or ``[K, B, M, 1, 1]``; None where there is none.
        like: ``[K, B, ...]``: how many samples, how many data.
    """

    stack: GatedStack
    bias: Tensor
    condition: Tensor | None
    like: Tensor

    @property
    def mean(self) -> Tensor:
        """There is none to be had.

        Raises:
            Incompatible: always.
        """
        raise Incompatible("E[x | z] of an autoregressive likelihood has no closed form: average samples")

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, H, W] -> [K, B]``, nats: one pass for all pixels.

        What is not observed is left out, which sums it out only if nothing observed comes after it.
        """
        if mask is not None:
            x = torch.where(mask.bool(), x, 0)
        if self.condition is None:
            logits = self.stack(x, None)[None].expand(len(self.like), -1, -1, -1)
        else:
            every = x.expand(*self.like.shape[:2], *x.shape[1:])
            logits = self.stack(every.flatten(0, 1), self.condition.flatten(0, 1)).unflatten(0, every.shape[:2])
        return Bernoulli(logits + self.bias).log_prob(x, mask)

    @torch.no_grad()
    def sample(self, rng: Rng) -> Tensor:
        """``[K, B, H, W]``, one pass over a window for each pixel; with a progress bar, on a terminal."""
        size, (height, width) = self.like.shape[:2], self.bias.shape
        u = rng.uniform(*size, height, width, dtype=self.bias.dtype).flatten(0, 1)
        x, reach = torch.zeros_like(u), self.stack.reach
        condition = None if self.condition is None else self.condition.flatten(0, 1)
        everywhere = condition is None or condition.shape[-2:] != (height, width)
        console = Console(stderr=True)
        pixels = range(height * width)
        for pixel in track(pixels, "pixels", console=console, transient=True, disable=not console.is_terminal):
            row, column = divmod(pixel, width)
            top, left = max(0, row - reach), max(0, column - reach)
            window = (slice(None), slice(top, row + 1), slice(left, column + reach + 1))
            seen = condition if everywhere else condition[:, window[0], window[1], window[2]]  # type: ignore[index]
            logit = self.stack(x[window], seen)[:, row - top, column - left] + self.bias[row, column]
            x[:, row, column] = (u[:, row, column] < logit.sigmoid()).to(x.dtype)
        return x.unflatten(0, size)
