"""Factorised Bernoulli posterior from a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge

from vbench.builtin.nets import Activation, mlp
from vbench.families import Bernoulli
from vbench.types import Batch, Encoder, Space, Trait

__all__ = ["BernoulliEncoder"]


class BernoulliEncoder(Encoder):
    r"""Independent binary latents, with logits from one net.

    :math:`q(z_d = 1 | x) = \sigma(\mathrm{net}(x)_d)`. Latents are binary {0, 1}, ``[latent]``. No hidden layers
    gives the linear sigmoid belief network of the literature.

    Source: Mnih & Gregor (2014), Neural Variational Inference and Learning in Belief Networks, arXiv:1402.0030.
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
        latent: Annotated[int, Ge(1), "number of binary latent variables"] = 200,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
    ) -> None:
        super().__init__()
        self.z = Space((latent,), "binary")
        self.net = mlp(x.size, hidden, latent, activation)

    def forward(self, batch: Batch, model: Any) -> Bernoulli:
        """q(z | x) with logits ``[B, latent]``."""
        return Bernoulli(self.net(batch.x.flatten(1)))
