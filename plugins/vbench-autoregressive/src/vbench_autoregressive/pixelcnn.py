"""Gated PixelCNN."""

from __future__ import annotations

from typing import Annotated, Any

from torch import Tensor

from vbench import Batch, Decoder, Space, Trait
from vbench_autoregressive.gated import Channels, GatedStack, Layers, OutputBias, Reach, pixel_bias
from vbench_autoregressive.raster import RasterBernoulli

__all__ = ["PixelCNNDecoder"]


class PixelCNNDecoder(Decoder):
    r"""Binary pixels, each given those before it; the latent enters every gate, the same at every pixel.

    .. math:: p(x | z) = \prod_i p(x_i | x_{<i}, z), \qquad
       y = \tanh(W_f * x + V_f z) \odot \sigma(W_g * x + V_g z)

    A vertical stack of convolutions sees the rows above, a horizontal one the pixels to the left, so that together they
    see every pixel before this one, without a blind spot, within ``reach`` rows and columns: with a small reach the
    global structure is left to z. Not ``conditional``, it is a model of x alone, and z is worth nothing to it.

    A density takes one pass of the nets, a sample one for each pixel, over a window of that reach.

    Source: van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves & Kavukcuoglu (2016), Conditional Image Generation
    with PixelCNN Decoders, arXiv:1606.05328; Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever & Abbeel
    (2017), Variational Lossy Autoencoder, arXiv:1611.02731 (a small receptive field).
    """

    needs = frozenset({Trait.data("binary"), Trait.IMAGE, Trait.COMPLETE})
    offers = frozenset({Trait.AUTOREGRESSIVE})

    def __init__(
        self,
        x: Space,
        z: Space,
        mean: Tensor,
        channels: Channels = 16,
        layers: Layers = 3,
        reach: Reach = 3,
        conditional: Annotated[bool, "whether z enters the gates"] = True,
        output_bias: OutputBias = "mean",
    ) -> None:
        super().__init__()
        self.conditional = conditional
        self.stack = GatedStack(z.size if conditional else 0, channels, layers, reach)
        self.bias = pixel_bias(mean, output_bias)

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> RasterBernoulli:
        """p(x | z), x ``[B, H, W]``."""
        return RasterBernoulli(self.stack, self.bias, z.flatten(2)[..., None, None] if self.conditional else None, z)
