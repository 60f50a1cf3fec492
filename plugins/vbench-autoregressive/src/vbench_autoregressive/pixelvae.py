"""PixelVAE: a PixelCNN over feature maps that are made of the latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor

from vbench import Activation, Batch, Decoder, Space, Trait, mlp
from vbench_autoregressive.gated import Channels, GatedStack, Layers, OutputBias, Reach, pixel_bias
from vbench_autoregressive.raster import RasterBernoulli

__all__ = ["PixelVAEDecoder"]


class PixelVAEDecoder(Decoder):
    r"""Binary pixels, each given those before it and what a net makes of the latent at its place.

    .. math:: p(x | z) = \prod_i p(x_i | x_{<i}, m(z)), \qquad m: z \mapsto [\mathrm{maps}, H, W]

    m is a multilayer perceptron (the source upsamples by convolutions), and its maps enter every gate of a gated
    PixelCNN at their own place (the source: once, beside the first layer's features). With a small ``reach`` the pixels
    before tell the texture, and z the rest: the lossy code of Chen et al., who put an autoregressive prior on z (priors
    ``flow`` of vbench-flows).

    Source: Gulrajani, Kumar, Ahmed, Taiga, Visin, Vazquez & Courville (2017), PixelVAE: A Latent Variable Model for
    Natural Images, arXiv:1611.05013; Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever & Abbeel (2017),
    Variational Lossy Autoencoder, arXiv:1611.02731 (a small receptive field).
    """

    needs = frozenset({Trait.data("binary"), Trait.IMAGE, Trait.COMPLETE})
    offers = frozenset({Trait.AUTOREGRESSIVE})

    def __init__(
        self,
        x: Space,
        z: Space,
        mean: Tensor,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers of m"] = (200,),
        activation: Annotated[Activation, "between these layers"] = "tanh",
        maps: Annotated[int, Ge(1), "feature maps that m makes"] = 8,
        channels: Channels = 16,
        layers: Layers = 3,
        reach: Reach = 3,
        output_bias: OutputBias = "mean",
    ) -> None:
        super().__init__()
        self.shape = (maps, *x.shape)
        self.net = mlp(z.size, hidden, maps * x.size, activation)
        self.stack = GatedStack(maps, channels, layers, reach)
        self.bias = pixel_bias(mean, output_bias)

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> RasterBernoulli:
        """p(x | z), x ``[B, H, W]``."""
        return RasterBernoulli(self.stack, self.bias, self.net(z.flatten(2)).unflatten(2, self.shape), z)
