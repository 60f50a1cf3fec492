"""The only source of randomness a method may use: a pure function of a key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

__all__ = ["Rng", "derive"]

_MASK = (1 << 64) - 1


def derive(*parts: str | int) -> int:
    """A 63-bit seed from words and numbers, the same on every machine: SHA-256 of the parts.

    >>> derive("noise", 0) == derive("noise", 0) != derive("noise", 1)
    True
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _mix(x: int) -> int:
    """The splitmix64 finaliser: neighbouring inputs give unrelated seeds."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _seed(key: int, count: int) -> int:
    return _mix((_mix(key & _MASK) + count * 0x9E3779B97F4A7C15) & _MASK) >> 1


def _draw(key: int, count: int, kind: str, shape: Sequence[int], dtype: torch.dtype, device: Any) -> Tensor:
    seed = _seed(key, count)
    if kind == "key":
        return torch.tensor(seed, dtype=torch.int64)
    generator = torch.Generator(device=device).manual_seed(seed)
    draw = torch.randn if kind == "normal" else torch.rand
    return draw(shape, generator=generator, dtype=dtype, device=device)


class _Sample(torch.autograd.Function):
    """A seeded torch generator that vmap may batch: each lane draws from its own key, so group size never matters."""

    @staticmethod
    def forward(key: Tensor, count: int, kind: str, shape: Sequence[int], dtype: torch.dtype, device: Any) -> Tensor:
        return _draw(int(key), count, kind, shape, dtype, device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        return (None,) * 6

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], key: Tensor, *rest: Any) -> tuple[Tensor, int]:
        lanes = key.movedim(in_dims[0] or 0, 0).unbind(0)
        if peek_interpreter_stack() is None:
            return torch.stack([_draw(int(lane), *rest) for lane in lanes]), 0
        return torch.stack([_Sample.apply(lane, *rest) for lane in lanes]), 0  # type: ignore[no-untyped-call]


class Rng:
    """Random draws as a function of ``key``: the same key gives the same draws, alone or as one lane of a vmap.

    Each call advances a counter, so successive draws differ; ``spawn`` gives an independent child. Keys stay on the
    CPU; draws land on ``device``. (Torch's CPU generators use 32 bits of a seed: two given streams coincide once in
    four billion pairs, which averages do not notice.)

    Args:
        key: an int, or an int64 scalar tensor (a batched one under ``torch.func.vmap``).
        device: where draws are made; torch's generators differ between device types.

    >>> bool((Rng(3).normal(2) == Rng(3).normal(2)).all())
    True
    """

    def __init__(self, key: int | Tensor, device: torch.device | str = "cpu") -> None:
        self.key = key
        self.device = torch.device(device)
        self._count = 0

    def _sample(self, kind: str, shape: Sequence[int], dtype: torch.dtype | None) -> Tensor:
        self._count += 1
        dtype = dtype or torch.get_default_dtype()
        if peek_interpreter_stack() is None:  # no transform to be told: the Function's own price is 60 us
            return _draw(int(self.key), self._count, kind, shape, dtype, self.device)
        key = torch.tensor(self.key) if isinstance(self.key, int) else self.key
        sample: Tensor = _Sample.apply(key, self._count, kind, tuple(shape), dtype, self.device)  # type: ignore[no-untyped-call]
        return sample

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Standard normal draws."""
        return self._sample("normal", shape, dtype)

    def uniform(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Uniform draws in the open interval (0, 1): safe under ``log`` and ``logit``."""
        u = self._sample("uniform", shape, dtype)
        edge = torch.finfo(u.dtype).eps / 2
        return u.clamp(edge, 1 - edge)

    def spawn(self) -> Rng:
        """An independent generator, a function of this one's key and position."""
        return Rng(self._sample("key", (), torch.int64), self.device)
