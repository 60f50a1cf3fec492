"""A factorised posterior of what is missing, from a net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge

from vbench import Activation, Batch, Bernoulli, Encoder, Space, Trait, mlp
from vbench_completion.missing import Filled, completed, latent_space, offers, outputs, seen_of

__all__ = ["FillEncoder"]


class FillEncoder(Encoder):
    r"""Amortised: a net makes the parameters of every missing entry of what is observed.

    .. math:: q(x_{\mathrm{mis}} | x_{\mathrm{obs}}) = \prod_{i \in \mathrm{mis}} q(x_i; \mathrm{net}(x_{\mathrm{obs}},
       \mathrm{mask})_i)

    Bernoulli where data are binary, Gaussian where they are real. The latent is the whole datum ``[*X]``; observed
    entries of a draw are the data, with probability one. The net sees the mask, and zeros in place of what is hidden.

    Source: Kingma & Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114 (amortisation); Wu, Goodman &
    Ermon (2018), Meta-Amortized Variational Inference and Learning, arXiv:1902.01950 (over which entries are missing).
    """

    needs = frozenset({Trait.MISSING})

    def __init__(
        self,
        x: Space,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (200, 200),
        activation: Annotated[Activation, "between the layers"] = "tanh",
    ) -> None:
        super().__init__()
        self.z = latent_space(x)
        self.offers = offers(self.z) | {Trait.AMORTIZED}
        self.net = mlp(2 * x.size, hidden, outputs(self.z), activation)

    def forward(self, batch: Batch, model: Any) -> Bernoulli | Filled:
        """q(z | x) of whole data, ``[B, *X]``."""
        x, seen = seen_of(batch)
        return completed(self.z, self.net(torch.cat([x, seen.to(x)], 1).flatten(1)), x, seen)
