"""Diagonal Gaussian posterior from a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge

from vbench.builtin.nets import Activation, mlp
from vbench.families import DiagonalNormal
from vbench.types import Batch, Encoder, Space, Trait

__all__ = ["GAUSSIAN_OFFERS", "GaussianEncoder"]

GAUSSIAN_OFFERS = frozenset(
    {Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.LOC_SCALE, Trait.AMORTIZED, Trait.KL}
)


class GaussianEncoder(Encoder):
    r"""Diagonal Gaussian posterior, mean and log scale from one net.

    :math:`q(z | x) = N(\mu(x), \mathrm{diag}\, \sigma^2(x))`. Latents are real, ``[latent]``.

    Source: Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """

    offers = GAUSSIAN_OFFERS

    def __init__(
        self,
        x: Space,
        latent: Annotated[int, Ge(1), "number of latent variables"] = 50,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
    ) -> None:
        super().__init__()
        self.z = Space((latent,))
        self.net = mlp(x.size, hidden, 2 * latent, activation)

    def forward(self, batch: Batch, model: Any) -> DiagonalNormal:
        """q(z | x) with parameters ``[B, latent]``."""
        loc, log_scale = self.net(batch.x.flatten(1)).chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())
