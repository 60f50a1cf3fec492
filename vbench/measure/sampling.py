"""Posterior draws in chunks: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vbench.rng import Rng, derive
from vbench.types import Batch, Draw, Posterior

__all__ = ["chunk_size", "draw_in_chunks"]

_BUDGET: Final = 32 * 10**5  # bytes of decoder outputs: more leave caches and heap, and take twice the time


def chunk_size(batch: Batch, k: int) -> int:
    """How many of k samples to draw at a time: 3.2 MB of decoder outputs, never a matter of free memory."""
    sample = batch.x.numel() * batch.x.element_size()
    return max(1, min(k, _BUDGET // max(1, sample)))


def draw_in_chunks(
    posterior: Posterior, batch: Batch, k: int, purpose: str, key: int, number: int, chunk: int | None = None
) -> Iterator[Draw]:
    """Draw k samples for each datum, chunk by chunk.

    Args:
        posterior: of the batch.
        batch: tells device and size.
        k: samples in all.
        purpose: chunk c is a function of purpose, key, number and c.
        key: likewise.
        number: of the batch.
        chunk: samples at a time; None: :func:`chunk_size`. Another size makes other draws.
    """
    size = chunk or chunk_size(batch, k)
    for count, start in enumerate(range(0, k, size)):
        yield posterior.draw(Rng(derive(purpose, key, number, count), batch.x.device), min(size, k - start))
