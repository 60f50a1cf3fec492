"""Where a glimpse looks: at all of an image, or at a patch of it through a grid of Gaussian filters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Attention", "Whole", "window"]


class Whole(nn.Module):
    """All of the image, whatever the decoder says.

    Attributes:
        size: numbers in a patch.
    """

    def __init__(self, image: tuple[int, ...]) -> None:
        super().__init__()
        self.image, self.size = image, image[0] * image[1]

    def read(self, output: Tensor, image: Tensor) -> Tensor:
        """``[..., height, width] -> [..., size]``."""
        return image.flatten(-2)

    def write(self, output: Tensor, patch: Tensor) -> Tensor:
        """``[..., size] -> [..., height, width]``."""
        return patch.unflatten(-1, self.image)


class Attention(nn.Module):
    r"""A grid of N x N Gaussian filters, placed by five numbers that are linear in the decoder's output h.

    .. math:: (\tilde g_X, \tilde g_Y, \log \sigma^2, \log \tilde\delta, \log \gamma) = W h, \qquad
       g_X = \tfrac{A + 1}{2} (\tilde g_X + 1), \qquad \delta = \tfrac{\max(A, B) - 1}{N - 1} \tilde\delta

    .. math:: F_X[i, a] \propto \exp\Big(-\frac{(a - \mu_i)^2}{2 \sigma^2}\Big), \quad \sum_a F_X[i, a] = 1, \quad
       \mu_i = g_X + \big(i - \tfrac N2 - \tfrac12\big)\, \delta, \qquad i = 1, \ldots, N, \; a = 1, \ldots, A

    and likewise :math:`F_Y` over the B rows. A patch is read as :math:`\gamma F_Y\, x\, F_X^T` and written as
    :math:`F_Y^T\, w\, F_X / \gamma`.

    Attributes:
        size: numbers in a patch, N^2.

    Source: Gregor, Danihelka, Graves, Rezende & Wierstra (2015), DRAW: A Recurrent Neural Network For Image Generation,
    arXiv:1502.04623, section 3.2.
    """

    def __init__(self, hidden: int, image: tuple[int, ...], side: int) -> None:
        super().__init__()
        self.image, self.side, self.size = image, side, side * side
        self.place = nn.Linear(hidden, 5)

    def filters(self, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """:math:`F_Y` ``[..., N, height]``, :math:`F_X` ``[..., N, width]`` and the intensity ``[..., 1, 1]``."""
        across, down, log_variance, log_stride, log_intensity = self.place(output)[..., None].unbind(-2)  # [..., 1]
        stride = (max(self.image) - 1) / max(self.side - 1, 1) * log_stride.exp()
        banks = (self._bank(at, n, stride, log_variance) for at, n in zip((down, across), self.image, strict=True))
        return *banks, log_intensity[..., None].exp()

    def _bank(self, at: Tensor, n: int, stride: Tensor, log_variance: Tensor) -> Tensor:
        """Filters ``[..., N, n]`` over n pixels, in units of a pixel."""
        middle = torch.arange(self.side, dtype=at.dtype, device=at.device) - (self.side - 1) / 2
        means = (n + 1) / 2 * (at + 1) + middle * stride  # [..., N]
        pixels = torch.arange(1, n + 1, dtype=at.dtype, device=at.device)
        squares = (pixels - means[..., None]).square() / log_variance.exp()[..., None]
        # a filter far outside has no pixel whose exponential is not zero, and still sums to one
        return (-0.5 * squares).softmax(-1)

    def read(self, output: Tensor, image: Tensor) -> Tensor:
        """``[..., height, width] -> [..., size]``."""
        rows, columns, intensity = self.filters(output)
        return (intensity * (rows @ image @ columns.mT)).flatten(-2)

    def write(self, output: Tensor, patch: Tensor) -> Tensor:
        """``[..., size] -> [..., height, width]``."""
        rows, columns, intensity = self.filters(output)
        return rows.mT @ patch.unflatten(-1, (self.side, self.side)) @ columns / intensity


def window(hidden: int, image: tuple[int, ...], side: int | None) -> Attention | Whole:
    """A patch of ``side`` x ``side``, or without one the whole image."""
    return Whole(image) if side is None else Attention(hidden, image, side)
