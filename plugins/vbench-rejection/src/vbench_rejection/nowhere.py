"""What a loop may ask of a condition while a transform is running."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["nowhere"]


class _Any(torch.autograd.Function):
    """``any`` over all entries and over all lanes, so that it is one and the same in each."""

    @staticmethod
    def forward(condition: Tensor) -> Tensor:
        return condition.any()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        return None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], condition: Tensor) -> tuple[Tensor, None]:
        return _Any.apply(condition), None  # type: ignore[no-untyped-call]


def nowhere(condition: Tensor) -> bool:
    """Whether ``condition`` holds at no entry, in none of the lanes of a running vmap.

    A loop that ends then runs as long as its slowest lane; a lane that is through must not change any more.
    """
    return not bool(_Any.apply(condition))  # type: ignore[no-untyped-call]
