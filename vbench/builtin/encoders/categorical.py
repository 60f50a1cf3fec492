"""Factorised categorical posterior from a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge

from vbench.builtin.nets import Activation, mlp
from vbench.families import Categorical
from vbench.types import Batch, Encoder, Space, Trait

__all__ = ["CategoricalEncoder"]


class CategoricalEncoder(Encoder):
    r"""Independent one-hot latents, with logits from one net.

    :math:`q(z_d | x) = \mathrm{softmax}(\mathrm{net}(x)_d)`. Latents are one-hot, ``[latent, classes]``.

    Source: Jang, Gu & Poole (2017), Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144.
    """

    offers = frozenset(
        {
            Trait.DENSITY,
            Trait.NORMALIZED,
            Trait.LOGITS,
            Trait.ENUMERABLE,
            Trait.RELAXABLE,
            Trait.AMORTIZED,
            Trait.KL,
        }
    )

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of categorical latent variables"] = 20,
        classes: Annotated[int, Ge(2), "classes of each"] = 10,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
    ) -> None:
        super().__init__()
        self.z = Space((latent, classes), "categorical")
        self.net = mlp(x.size, hidden, latent * classes, activation)

    def forward(self, batch: Batch, model: Any) -> Categorical:
        """q(z | x) with logits ``[B, latent, classes]``."""
        return Categorical(self.net(batch.x.flatten(1)).unflatten(1, self.z.shape))
