"""Linear and convolutional layers with the arithmetic of squared gradients, and how a net gets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vbench.measure.taps import Squares, Tape, TappedLayer, through

__all__ = ["tap"]


class _Linear(nn.Linear):
    tape: Tape
    path: str

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return through(self, input)

    def compute(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(a, weight, bias)

    def pull(self, a: Tensor, d: Tensor, weight: Tensor) -> Tensor:
        return d @ weight

    def event(self) -> int:
        return 1

    def squares(self, a: Tensor, d: Tensor, bias: bool) -> Squares:
        draws, m = d.shape[1:3]
        half = draws // 2
        if a.shape[1] == 1 and m == 1:  # the input is a constant factor
            size = a.square().sum((1, 2, 3)) + bias
            own, sums = d.square().sum((2, 3)) * size[:, None], d.sum(1, keepdim=True)
            cross = (d[:, :half].sum(1) * d[:, half:].sum(1)).sum((1, 2)) * size
            return Squares(own, cross, _outer(a, sums), sums.sum((0, 1, 2)))
        a = a.expand(-1, draws, -1, -1)
        lanes = a.flatten(0, 1), d.flatten(0, 1)
        halves = [(a[:, s].flatten(1, 2), d[:, s].flatten(1, 2)) for s in (slice(half), slice(half, None))]
        own = _products(*lanes, *lanes, bias).view(-1, draws)
        return Squares(own, _products(*halves[0], *halves[1], bias), _outer(a, d), d.sum((0, 1, 2)))


def _outer(a: Tensor, d: Tensor) -> Tensor:
    """The weight's gradient, summed over all rows."""
    return d.flatten(0, -2).T @ a.flatten(0, -2)


def _products(a: Tensor, d: Tensor, b: Tensor, e: Tensor, bias: bool) -> Tensor:
    """Inner products ``[N]`` of the gradients that rows ``a [N, r, in]``, ``d [N, r, out]`` and b, e sum up to."""
    wide, tall = a.shape[2], d.shape[2]
    if a.shape[1] == b.shape[1] == 1:
        return (d * e).sum((1, 2)) * ((a * b).sum((1, 2)) + bias)
    if a.shape[1] * b.shape[1] * (wide + tall) <= (a.shape[1] + b.shape[1]) * wide * tall:
        return ((d @ e.mT) * (a @ b.mT + bias)).sum((1, 2))
    formed = [((one[0].T @ one[1]) * (one[2].T @ one[3])).sum() for one in zip(d, a, e, b, strict=True)]
    return torch.stack(formed) + (d.sum(1) * e.sum(1)).sum(1) * bias


class _Convolution:
    """What both directions share; a ``[..., in, *image]``, d ``[..., out, *image]``."""

    weight: Tensor
    bias: Tensor | None
    transposed: bool
    tape: Tape
    path: str

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return through(self, input)

    def _geometry(self) -> tuple[Any, ...]:
        own: Any = self
        return own.stride, own.padding, own.dilation, self.transposed, own.output_padding, own.groups

    def compute(self, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        images = torch.convolution(a.flatten(0, -4) if a.dim() > 3 else a[None], weight, bias, *self._geometry())
        return images.reshape(*a.shape[:-3], *images.shape[1:])

    def pull(self, a: Tensor, d: Tensor, weight: Tensor) -> Tensor:
        rows, grads = a.reshape(-1, *a.shape[-3:]), d.reshape(-1, *d.shape[-3:])
        only_input = [True, False, False]
        found = torch.ops.aten.convolution_backward(grads, rows, weight, None, *self._geometry(), only_input)
        return cast(Tensor, found[0]).view_as(a)

    def event(self) -> int:
        return 3

    def _formed(self, a: Tensor, d: Tensor) -> Tensor:
        """The gradient of each row: ``[N, in, H, W]``, ``[N, out, H, W] -> [N, weight]``."""
        own: Any = self
        wide, narrow = (d, a) if self.transposed else (a, d)
        patches = functional.unfold(wide, own.kernel_size, own.dilation, own.padding, own.stride)  # [N, c k k, T]
        return (narrow.flatten(2) @ patches.mT).flatten(1)

    def squares(self, a: Tensor, d: Tensor, bias: bool) -> Squares:
        draws, m = d.shape[1:3]
        half, own, cross = draws // 2, [], []
        total = torch.zeros(self.weight.numel(), dtype=d.dtype, device=d.device)
        for some_a, some_d in zip(a.expand(-1, draws, *a.shape[2:]), d, strict=True):
            rows = self._formed(some_a.flatten(0, 1), some_d.flatten(0, 1)).view(draws, m, -1).sum(1)
            total += rows.sum(0)
            if bias:
                rows = torch.cat([rows, some_d.sum((1, 3, 4))], 1)
            own.append(rows.square().sum(1))
            cross.append(rows[:half].sum(0).dot(rows[half:].sum(0)))
        return Squares(torch.stack(own), torch.stack(cross), total.view_as(self.weight), d.sum((0, 1, 2, 4, 5)))


class _Conv2d(_Convolution, nn.Conv2d):
    pass


class _ConvTranspose2d(_Convolution, nn.ConvTranspose2d):  # type: ignore[misc]  # output_size is not offered
    pass


_TAPPED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _Linear,
    nn.Conv2d: _Conv2d,
    nn.ConvTranspose2d: _ConvTranspose2d,
}


def tap(module: nn.Module, tape: Tape) -> dict[str, TappedLayer]:
    """Turn the layers of ``module`` that can be tapped into tapped ones, in place: path -> layer.

    A layer can be tapped where it is exactly torch's own, plain, not grouped, and alone in holding its tensors.

    Args:
        module: only where a weight is to be trained.
        tape: what they write to.
    """
    owners = Counter(id(p) for each in module.modules() for p in each.parameters(recurse=False))
    found: dict[str, TappedLayer] = {}
    for path, layer in module.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        if type(layer) not in _TAPPED or not _plain(layer, own, owners):
            continue
        layer.__class__ = _TAPPED[type(layer)]
        tapped = cast(Any, layer)
        tapped.tape, tapped.path = tape, path
        found[path] = tapped
    return found


def _plain(layer: Any, own: Mapping[str, Tensor], owners: Mapping[int, int]) -> bool:
    weight = own.get("weight")
    if weight is None or not weight.requires_grad or any(owners[id(p)] > 1 for p in own.values()):
        return False
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    if isinstance(layer, nn.Linear):
        return True
    return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
