"""The decoder of DRAW: a canvas that is written on, step by step."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vbench import LSTM, Batch, Bernoulli, Decoder, Incompatible, Space, Trait
from vbench_hierarchy.filterbank import window

__all__ = ["CANVAS", "DrawDecoder", "Sketch", "Stroke", "hidden_of"]

CANVAS: Final = "canvas"  # the decoder has start(k, count), and step(z, sketch) for the latents [K, B, D] of a step


def hidden_of(size: int) -> str:
    """The trait that the decoder's recurrent net has so many outputs."""
    return f"hidden-{size}"


class Sketch(NamedTuple):
    """What there is between two steps."""

    canvas: Tensor  # [K, B, height, width], logits
    output: Tensor  # [K, B, hidden], of the recurrent net
    memory: Tensor  # [K, B, hidden]


class Stroke(nn.Module):
    """One step: the recurrent net takes a latent in, and what it puts out is added to the canvas."""

    def __init__(self, latent: int, hidden: int, image: tuple[int, ...], write: int | None) -> None:
        super().__init__()
        self.recurrent = LSTM(latent, hidden)
        self.window = window(hidden, image, write)
        self.patch = nn.Linear(hidden, self.window.size)

    def forward(self, z: Tensor, sketch: Sketch) -> Sketch:
        """The sketch after ``z [K, B, D]``."""
        output, memory = self.recurrent((sketch.output, sketch.memory), z)
        return Sketch(sketch.canvas + self.window.write(output, self.patch(output)), output, memory)


class DrawDecoder(Decoder):
    r"""Independent binary pixels, their logits the sum of what T steps have written.

    .. math:: h_t = \mathrm{LSTM}(h_{t-1}, z_t), \qquad c_t = c_{t-1} + \mathrm{write}(h_t), \qquad
       p(x_i = 1 | z) = \sigma(c_{T,i})

    :math:`\mathrm{write}(h)` is a patch linear in h, laid on the canvas by Gaussian filters, or with ``write: null``
    linear in h itself. The first state and the first canvas are learned; the canvas starts at the logit of the training
    mean (clipped to [.001, .999]). Latents are ``[T, D]``, as the encoder ``draw`` makes them.

    Source: Gregor, Danihelka, Graves, Rezende & Wierstra (2015), DRAW: A Recurrent Neural Network For Image Generation,
    arXiv:1502.04623 (MNIST: 256 outputs, a patch of 5 x 5).
    """

    offers = frozenset({CANVAS})
    needs = frozenset({Trait.data("binary"), Trait.IMAGE, Trait.latent("real")})

    def __init__(
        self,
        x: Space,
        z: Space,
        mean: Tensor,
        hidden: Annotated[int, Ge(1), "outputs of the recurrent net"] = 256,
        write: Annotated[
            Annotated[int, Ge(1)] | None, "side of the patch that a step writes; null: the whole image"
        ] = 5,
    ) -> None:
        super().__init__()
        if len(z.shape) != 2:
            raise Incompatible(f"draw takes latents [T, D], step by step, not {list(z.shape)}")
        self.offers = self.offers | {hidden_of(hidden)}
        self.canvas = nn.Parameter(mean.clamp(0.001, 0.999).logit())
        self.state = nn.Parameter(torch.zeros(2, hidden))
        self.step = Stroke(z.shape[1], hidden, x.shape, write)

    def start(self, k: int, count: int) -> Sketch:
        """The sketch before the first step."""
        return Sketch(*(first.expand(k, count, *first.shape) for first in (self.canvas, *self.state)))

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Bernoulli:
        """p(x | z) with logits ``[K, B, height, width]``."""
        sketch = self.start(*z.shape[:2])
        for latent in z.unbind(2):
            sketch = self.step(latent, sketch)
        return Bernoulli(sketch.canvas)
