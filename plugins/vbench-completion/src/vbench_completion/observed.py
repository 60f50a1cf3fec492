"""The data are a part of the latent: what is observed is certain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vbench import Batch, Decoder, Incompatible, Rng, Space, Trait

__all__ = ["ObservedDecoder"]


@dataclass(frozen=True)
class Observed:
    """x is z.

    Attributes:
        z: ``[K, B, *X]``.
    """

    z: Tensor

    @property
    def mean(self) -> Tensor:
        """z itself."""
        return self.z

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Zero where all observed entries are those of z, else minus infinity: ``[B, *X] -> [K, B]``."""
        agree = self.z == x
        if mask is not None:
            agree = agree | ~mask.bool()
        zero = torch.zeros((), dtype=self.z.dtype, device=self.z.device)
        return torch.where(agree.flatten(2).all(2), zero, -math.inf)

    def sample(self, rng: Rng) -> Tensor:
        """z itself."""
        return self.z.clone()


class ObservedDecoder(Decoder):
    r"""The latent is the whole datum, of which the mask's entries are seen.

    .. math:: p(x_{\mathrm{obs}} | z) = 1[x_{\mathrm{obs}} = z_{\mathrm{obs}}], \qquad
       \log p(x_{\mathrm{obs}}) = \log \sum_{z: z_{\mathrm{obs}} = x_{\mathrm{obs}}} p(z)

    with the prior ``joint``, and an encoder whose draws have what is observed in them (``fill``, ``fill-svi``). Then an
    ELBO is below :math:`\log p(x_{\mathrm{obs}})` by :math:`KL(q \| p(x_{\mathrm{mis}} | x_{\mathrm{obs}}))`.

    Source: Rezende, Mohamed & Wierstra (2014), Stochastic Backpropagation and Approximate Inference in Deep Generative
    Models, arXiv:1401.4082 (completing images, there by a Markov chain).
    """

    needs = frozenset({Trait.MISSING})

    def __init__(self, x: Space, z: Space) -> None:
        super().__init__()
        if x.shape != z.shape or (x.support == "binary") != (z.support == "binary"):
            raise Incompatible(f"the latent is {z.support} {list(z.shape)}, a datum {x.support} {list(x.shape)}")

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Observed:
        """p(x | z), x ``[B, *X]``."""
        return Observed(z)
