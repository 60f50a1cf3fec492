"""Diagonal Gaussian posterior from a convolutional net."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

from annotated_types import Ge
from torch import nn

from vbench.builtin.encoders.gaussian import GAUSSIAN_OFFERS
from vbench.builtin.nets import Activation, activation_layer, halved
from vbench.families import DiagonalNormal
from vbench.types import Batch, Encoder, Space, Trait

__all__ = ["ConvGaussianEncoder"]


class ConvGaussianEncoder(Encoder):
    """Diagonal Gaussian posterior of an image, by convolutions.

    Convolutions of stride 2 and one linear layer give mean and log scale.

    Latents are real, ``[latent]``; data are images ``[height, width]``.

    Source: Salimans, Kingma & Welling (2015), Markov Chain Monte Carlo and Variational Inference: Bridging the
    Gap, arXiv:1410.6460 (its convolutional encoder, with strides in place of pooling).
    """

    offers = GAUSSIAN_OFFERS
    needs = frozenset({Trait.IMAGE})

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of latent variables"] = 32,
        channels: Annotated[Sequence[Annotated[int, Ge(1)]], "channels of the convolutions, each of stride 2"] = (
            32,
            64,
        ),
        activation: Annotated[Activation, "between the layers"] = "relu",
    ) -> None:
        super().__init__()
        self.z = Space((latent,))
        height, width = halved((x.shape[0], x.shape[1]), len(channels))[-1]
        layers: list[nn.Module] = []
        for left, right in pairwise([1, *channels]):
            layers += [nn.Conv2d(left, right, 3, stride=2, padding=1), activation_layer(activation)]
        outputs = ([1, *channels])[-1] * height * width
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(outputs, 2 * latent))

    def forward(self, batch: Batch, model: Any) -> DiagonalNormal:
        """q(z | x) with parameters ``[B, latent]``."""
        loc, log_scale = self.net(batch.x[:, None]).chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())
