"""Bernoulli likelihood from a convolutional net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor, nn

from vbench.builtin.decoders.bernoulli import OutputBias
from vbench.builtin.nets import Activation, activation_layer, halved
from vbench.families import Bernoulli
from vbench.types import Batch, Decoder, Space, Trait

__all__ = ["ConvBernoulliDecoder"]


class ConvBernoulliDecoder(Decoder):
    """Independent binary pixels of an image, by transposed convolutions.

    One linear layer, then transposed convolutions of stride 2. A learned bias for each pixel starts at the logit of
    the training mean.

    Source: Salimans, Kingma & Welling (2015), Markov Chain Monte Carlo and Variational Inference: Bridging the
    Gap, arXiv:1410.6460 (its convolutional decoder, with strides in place of upsampling).
    """

    needs = frozenset({Trait.data("binary"), Trait.IMAGE})

    def __init__(
        self,
        x: Space,
        z: Space,
        mean: Tensor,
        channels: Annotated[Sequence[Annotated[int, Ge(1)]], "channels from the latent's side to the image's"] = (
            64,
            32,
        ),
        activation: Annotated[Activation, "between the layers"] = "relu",
        output_bias: Annotated[OutputBias, "where the pixels' bias starts: at the training mean, or at zero"] = "mean",
    ) -> None:
        super().__init__()
        sizes = halved((x.shape[0], x.shape[1]), len(channels))[::-1]
        self.start = (([*channels, 1])[0], *sizes[0])
        self.linear = nn.Linear(z.size, self.start[0] * self.start[1] * self.start[2])
        layers: list[nn.Module] = []
        for left, right, small, large in zip(channels, [*channels[1:], 1], sizes[:-1], sizes[1:], strict=True):
            extra = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
            up = nn.ConvTranspose2d(left, right, 3, stride=2, padding=1, output_padding=extra)
            layers += [activation_layer(activation), up]
        self.net = nn.Sequential(*layers)
        pixels = mean.clamp(0.001, 0.999).logit() if output_bias == "mean" else mean.new_zeros(x.shape)
        self.bias = nn.Parameter(pixels.detach().clone())

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Bernoulli:
        """p(x | z) with logits ``[K, B, height, width]``."""
        maps = self.linear(z.flatten(2).flatten(0, 1)).unflatten(1, self.start)
        return Bernoulli(self.net(maps)[:, 0].unflatten(0, z.shape[:2]) + self.bias)
