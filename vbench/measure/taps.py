"""Layers that hand over what a weight's gradient is made of, row by row, instead of forming it.

The gradient of a linear or convolutional layer is a sum of outer products of its inputs a and its output gradients
d. Inner products of such gradients follow from those of a and of d: none is formed where that is cheaper.

Source: Goodfellow (2015), Efficient Per-Example Gradient Computations, arXiv:1510.01799; Bu, Mao & Xu (2022),
Scalable and Efficient Training of Large Convolutional Neural Networks with Differential Privacy, arXiv:2205.10683
(inner products of a and d, or the gradients themselves, whichever is less work).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch._C._functorch import _add_batch_dim, _remove_batch_dim, maybe_get_level, peek_interpreter_stack
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack

__all__ = ["Squares", "Tape", "TappedLayer", "through"]


class Tape:
    """What tapped layers saw in one pass of L = C x S lanes, S draws for each of C data.

    Attributes:
        lane: the number of the lane, inside a vmap over lanes; None where nothing is to be tapped.
        draws: S.
        armed: whether backward passes are written down.
    """

    def __init__(self) -> None:
        self.lane: Tensor | None = None
        self.draws = self.lanes = 1
        self.armed = False
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def write(self, name: str, a: Tensor, d: Tensor) -> None:
        """One use of a layer: a and d, ``[C, S, m, *]`` (``[C, 1, m, *]`` for inputs that all draws share)."""
        self._seen.setdefault(name, []).append((a.detach(), d.detach()))

    def read(self, name: str) -> tuple[Tensor, Tensor] | None:
        """All uses of a layer side by side, and forget them; None where it was not used."""
        uses = self._seen.pop(name, [])
        if len(uses) < 2:
            return uses[0] if uses else None
        draws = max(a.shape[1] for a, _ in uses)
        inputs = [a.expand(-1, draws, *a.shape[2:]) for a, _ in uses]
        return torch.cat(inputs, 2), torch.cat([d for _, d in uses], 2)


class Squares(NamedTuple):
    """Squares and sums of the gradients of C data with S draws each, in two halves of the draws.

    Attributes:
        own: squared norm of each, ``[C, S]``.
        cross: inner product of the halves' sums, ``[C]``.
        weight: sum of the weight's gradients, its shape.
        bias: sum of the bias's, ``[out]``.
    """

    own: Tensor
    cross: Tensor
    weight: Tensor
    bias: Tensor


class TappedLayer(Protocol):
    """A layer of one weight and perhaps a bias, and the arithmetic of its gradients."""

    weight: Tensor
    bias: Tensor | None
    tape: Tape
    path: str

    def compute(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output for inputs with any number of leading dimensions."""
        ...

    def pull(self, a: Tensor, d: Tensor, weight: Tensor) -> Tensor:
        """The gradient by the input."""
        ...

    def event(self) -> int:
        """How many trailing dimensions make one row."""
        ...

    def squares(self, a: Tensor, d: Tensor, bias: bool) -> Squares:
        """What the gradients of weight (and bias) amount to."""
        ...


class _Through(torch.autograd.Function):
    """A tapped layer inside a vmap, at any depth of transforms; :class:`_Written` is what it comes down to."""

    @staticmethod
    def forward(a: Tensor, weight: Tensor, bias: Tensor | None, lane: Tensor, layer: TappedLayer) -> Tensor:
        return layer.compute(a, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, weight, _, _, ctx.layer = inputs
        ctx.save_for_backward(a, weight)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        a, weight = ctx.saved_tensors
        return ctx.layer.pull(a, d, weight), None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], a: Tensor, *rest: Any) -> tuple[Tensor, int]:
        place = in_dims[0]
        a = a.expand(info.batch_size, *a.shape) if place is None else a.movedim(place, 0)
        if peek_interpreter_stack() is not None:
            return _Through.apply(a, *rest), 0  # type: ignore[no-untyped-call]
        weight, bias, _, layer = rest
        return _Written.apply(a, weight, bias, layer), 0  # type: ignore[no-untyped-call]


class _Written(torch.autograd.Function):
    """A tapped layer on plain tensors, lanes first: its backward writes to the tape."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, weight: Tensor, bias: Tensor | None, layer: TappedLayer) -> Tensor:
        rows = a.reshape(-1, layer.tape.draws, *a.shape[1:])  # [C, S, ...]
        # what does not depend on the draw (an encoder, as a rule) is computed once for each datum
        ctx.shared = rows.shape[1] > 1 and torch.equal(rows, rows[:, :1].expand_as(rows))
        ctx.layer = layer
        if not ctx.shared:
            ctx.save_for_backward(a, weight)
            return layer.compute(a, weight, bias)
        ctx.save_for_backward(rows[:, 0].clone(), weight)
        out = layer.compute(rows[:, 0], weight, bias)
        return out[:, None].expand(-1, rows.shape[1], *out.shape[1:]).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        layer: TappedLayer = ctx.layer
        a, weight = ctx.saved_tensors
        tape, event = layer.tape, layer.event()
        if tape.armed:
            data = len(d) // tape.draws
            inputs = a.reshape(data, 1 if ctx.shared else tape.draws, -1, *a.shape[-event:])
            tape.write(layer.path, inputs, d.reshape(data, tape.draws, -1, *d.shape[-event:]))
        if not ctx.needs_input_grad[0]:
            return (None,) * 4
        if ctx.shared:
            a = a.repeat_interleave(tape.draws, 0)
        return layer.pull(a, d, weight), None, None, None


def through(layer: Any, a: Tensor) -> Tensor:
    """The layer's output, and where a lane runs and its weight is trained, word of it to the tape."""
    tape: Tape = layer.tape
    # a frozen twin's weight asks for no gradient: its passes are none of the tape's business
    if tape.lane is None or not layer.weight.requires_grad:
        return cast(Tensor, layer.compute(a, layer.weight, layer.bias))
    level = maybe_get_level(tape.lane)
    if peek_interpreter_stack().level() != level:
        return cast(Tensor, _Through.apply(a, layer.weight, layer.bias, tape.lane, layer))  # type: ignore[no-untyped-call]
    # the same by hand: a Function that is told of transforms costs a millisecond a call
    rows = _remove_batch_dim(a, level, tape.lanes, 0)
    with temporarily_pop_interpreter_stack():
        out = _Written.apply(rows, layer.weight, layer.bias, layer)  # type: ignore[no-untyped-call]
    return _add_batch_dim(out, 0, level)
