"""Normalizing flow prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import zuko
from torch import Tensor

from vbench import Batch, Density, Draw, Prior, Rng, Space, Trait, activation_layer
from vbench_flows.normalizing import Conditioner, Flow, Net, Steps
from vbench_flows.realnvp import couplings
from vbench_flows.through import Structure, Through, standard

__all__ = ["FlowPrior"]


@dataclass(frozen=True)
class _Shaped:
    """A flow of flat latents, for latents of any shape."""

    flat: Flow
    shape: tuple[int, ...]

    def draw(self, rng: Rng, k: int) -> Draw:
        """``[K, 1, *Z]``."""
        z, log_q, _ = self.flat.draw(rng, k)
        return Draw(z.reshape(*z.shape[:2], *self.shape), log_q)

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, *Z] -> [K, B]``, nats."""
        return self.flat.log_prob(z.reshape(*z.shape[:2], -1))


class FlowPrior(Prior):
    r"""A learned density of real latents: a standard normal through affine steps, by zuko.

    .. math:: \log p(z) = \log N(f(z); 0, I) + \log |\det \partial f / \partial z|

    with f of ``steps`` masked autoregressive steps, the order reversed from one to the next, or couplings. A density
    takes one evaluation of each net, a draw one for each latent (autoregressive) or two (coupling). Latents are
    real, of any shape.

    Source: Papamakarios, Pavlakou & Murray (2017), Masked Autoregressive Flow for Density Estimation, arXiv:1705.07057;
    Dinh, Sohl-Dickstein & Bengio (2017), Density Estimation Using Real NVP, arXiv:1605.08803; Chen, Kingma, Salimans,
    Duan, Dhariwal, Schulman, Sutskever & Abbeel (2017), Variational Lossy Autoencoder, arXiv:1611.02731 (as a prior).
    """

    needs = frozenset({Trait.latent("real")})
    origin: Tensor

    def __init__(
        self,
        z: Space,
        structure: Structure = "autoregressive",
        steps: Steps = 2,
        conditioner: Conditioner = (64,),
        activation: Net = "tanh",
    ) -> None:
        super().__init__()
        self.shape = z.shape
        self.register_buffer("origin", torch.zeros(1, z.size))
        if structure == "coupling":
            self.transform = couplings(z.size, 0, steps, conditioner, activation)
        else:
            layer = partial(activation_layer, activation)
            flow = zuko.flows.MAF(z.size, 0, steps, hidden_features=conditioner, activation=layer)
            self.transform = flow.transform

    def forward(self, batch: Batch | None, model: Any) -> Density:
        """p(z), shared by the batch."""
        return _Shaped(Flow(standard(self.origin), [Through(self.transform())]), self.shape)
