"""Random numbers for lanes: a datum's own, or its share of what a batch drew."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch._C._functorch import _add_batch_dim, maybe_get_level, peek_interpreter_stack
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack

from vbench.rng import Rng, derive

__all__ = ["DatumRng", "RecordingRng", "ReplayingRng", "latin"]


class _Dealt(torch.autograd.Function):
    """``make() [L, ...]``, dealt out to the lanes: drawn in one place, where vmap allows it."""

    @staticmethod
    def forward(lane: Tensor, make: Callable[[], Tensor]) -> Tensor:
        raise RuntimeError("there are no lanes to deal to")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], lane: Tensor, make: Callable[[], Tensor]
    ) -> tuple[Tensor, int]:
        return make(), 0


@functools.cache
def _orders(h: int) -> Tensor:
    """Every order i = (a s + c) mod h in which h strata can be visited, ``[h, h (h - 1)]``."""
    s, a, c = torch.arange(h)[:, None, None], torch.arange(1, h)[:, None], torch.arange(h)
    return ((a * s + c) % h).flatten(1).float()


def latin(key: int, half: int, kind: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    r"""Two independent halves of h stratified draws each, ``[2 h, *shape]``; h is a prime.

    Within a half each coordinate visits every stratum [i / h, (i + 1) / h) once, in an order
    :math:`i = (a s + c) \bmod h` with random a and c of its own. A draw by itself is distributed as ever; two of one
    half fall into different strata of each coordinate, any two with equal probability, as in a Latin hypercube. So a
    mean over a half loses from its variance what is additive in the coordinates.

    Args:
        key: of these numbers.
        half: h.
        kind: ``normal`` or ``uniform``.
        shape: of a draw.
        dtype: of the numbers.
        device: where they are made.

    Source: McKay, Beckman & Conover (1979), A Comparison of Three Methods for Selecting Values of Input Variables,
    doi:10.1080/00401706.1979.10489755; Stein (1987), Large Sample Properties of Simulations Using Latin Hypercube
    Sampling, doi:10.1080/00401706.1987.10488205.
    """
    generator = torch.Generator(device=device).manual_seed(key)
    orders = _orders(half).to(device, dtype)
    chosen = (torch.rand(2 * math.prod(shape), generator=generator, device=device) * orders.shape[1]).long()
    strata = orders.index_select(1, chosen).view(half, 2, -1).transpose(0, 1)
    u = torch.rand(2, half, math.prod(shape), generator=generator, dtype=dtype, device=device)
    u = u.add_(strata).div_(half).view(2 * half, *shape)
    edge = torch.finfo(dtype).eps / 2
    return u if kind == "uniform" else torch.special.ndtri(u.clamp_(edge, 1 - edge))


class DatumRng(Rng):
    """Random numbers of all lanes, stratified over the draws of each datum by :func:`latin`.

    The numbers of a datum are a function of its key, whoever else is in the pass.

    Args:
        lane: number of the lane, under a vmap.
        keys: one for each datum.
        half: h; a datum has 2 h lanes.
        device: where draws are made.
    """

    def __init__(self, lane: Tensor, keys: Sequence[int], half: int, device: torch.device) -> None:
        super().__init__(0, device)
        self._lane, self._keys, self._half = lane, keys, half

    def _sample(self, kind: str, shape: Sequence[int], dtype: torch.dtype | None) -> Tensor:
        self._count += 1
        count, form = self._count, dtype or torch.get_default_dtype()

        def make() -> Tensor:
            each = [latin(derive(key, count), self._half, kind, shape, form, self.device) for key in self._keys]
            return torch.cat(each)

        level = maybe_get_level(self._lane)
        if peek_interpreter_stack().level() != level:
            return cast(Tensor, _Dealt.apply(self._lane, make))  # type: ignore[no-untyped-call]
        # the same by hand: a Function that is told of transforms costs a millisecond a call
        with temporarily_pop_interpreter_stack():
            numbers = make()
        return _add_batch_dim(numbers, 0, level)

    def spawn(self) -> Rng:
        """An independent generator for every lane."""
        self._count += 1
        return DatumRng(self._lane, [derive("spawn", k, self._count) for k in self._keys], self._half, self.device)


class RecordingRng(Rng):
    """Remembers what it drew for a batch, so that lanes can be given the same.

    Args:
        key: as in :class:`~vbench.rng.Rng`.
        device: likewise.
        drawn: where to keep it.
    """

    def __init__(self, key: int | Tensor, device: torch.device, drawn: list[Tensor]) -> None:
        super().__init__(key, device)
        self._drawn = drawn

    def _sample(self, kind: str, shape: Sequence[int], dtype: torch.dtype | None) -> Tensor:
        self._drawn.append(super()._sample(kind, shape, dtype))
        return self._drawn[-1]

    def spawn(self) -> Rng:
        """A child whose draws are remembered too."""
        return RecordingRng(super()._sample("key", (), torch.int64), self.device, self._drawn)


class ReplayingRng(Rng):
    """Gives each lane its own datum's share of what was drawn for a batch.

    Args:
        lane: number of the lane, and of its datum.
        drawn: what a :class:`RecordingRng` kept.
        data: size of that batch.
    """

    def __init__(self, lane: Tensor, drawn: list[Tensor], data: int) -> None:
        super().__init__(0, lane.device)
        self._lane, self._left, self._data = lane, iter(drawn), data

    def _sample(self, kind: str, shape: Sequence[int], dtype: torch.dtype | None) -> Tensor:
        drawn = next(self._left)
        where = [i for i, (n, m) in enumerate(zip(drawn.shape, shape, strict=True)) if (n, m) == (self._data, 1)]
        if self._data > 1 and (len(where) != 1 or drawn.numel() != self._data * math.prod(shape)):
            raise RuntimeError("the data of a batch share random numbers")
        return drawn.index_select(where[0], self._lane[None]) if self._data > 1 else drawn

    def spawn(self) -> Rng:
        """The same: children drew in this order too."""
        return self
