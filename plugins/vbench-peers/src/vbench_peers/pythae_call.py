r"""How a loss of Pythae is called on a vbench model: the ``loss_function`` of its models, one datum at a time by vmap.

The losses know one prior, N(0, I), and take a posterior's mean and log variance, its draws, and the pixels' means. Ours
are handed over in the coordinates in which our prior is N(0, I), :math:`z' = (z - m) / s`: log p(z) - log q(z | x) is
the same in all coordinates, and so are its gradients. One number for each datum comes of a batch of one, for which the
losses' mean over the batch is the datum's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Tensor
from torch.func import vmap

from vbench import Batch, Bernoulli, Bound, Estimate, Estimator, Incompatible, Rng, Space, Trait

__all__ = ["NEEDS", "Given", "PythaeLoss", "given", "peer"]

NEEDS = frozenset({Trait.PATHWISE, Trait.LOC_SCALE, Trait.FACTORIZED_PRIOR, Trait.MEAN, Trait.data("binary")})


class Given(NamedTuple):
    """What a loss is called with; samples come second, as Pythae has them."""

    recon_x: Tensor  # [B, K, X] means of the pixels
    x: Tensor  # [B, X]
    mu: Tensor  # [B, K, D]
    log_var: Tensor  # [B, K, D]
    z: Tensor  # [B, K, D]


def peer(kind: Any, config: Any, x: Space, z: Space, **settings: Any) -> Any:
    """A model of Pythae for binary pixels, without nets: its constructor wants some, and the losses use none."""
    made = config(input_dim=x.shape, latent_dim=z.size, reconstruction_loss="bce", **settings)
    return kind(made, encoder=BaseEncoder(), decoder=BaseDecoder())


def given(model: Any, batch: Batch, rng: Rng, k: int, standardized: bool = True) -> Given:
    """The model's posterior, draws and pixels of a batch.

    Raises:
        Incompatible: the likelihood is not one of independent binary pixels.
    """
    q = model.posterior(batch)
    return handed(model, batch, q, q.draw(rng, k).z, standardized)


def handed(model: Any, batch: Batch, q: Any, z: Tensor, standardized: bool = True) -> Given:
    """The same of draws ``z [K, B, *Z]`` that were made before."""
    likelihood = model.likelihood(batch, z)
    if not isinstance(likelihood, Bernoulli) or batch.mask is not None:
        raise Incompatible("Pythae's losses are of independent binary pixels, all of them observed")
    loc, scale = q.loc, q.scale
    if standardized:
        p = model.prior_density(batch)
        loc, scale, z = (loc - p.loc) / p.scale, scale / p.scale, (z - p.loc) / p.scale

    def repeated(t: Tensor) -> Tensor:
        return t.expand_as(z).transpose(0, 1).flatten(2)

    pixels = likelihood.mean.transpose(0, 1).flatten(2)
    return Given(pixels, batch.x.flatten(1), repeated(loc), repeated(2 * scale.log()), repeated(z))


class PythaeLoss(Estimator):
    """A ``loss_function`` whose first output is what Pythae trains by.

    Args:
        peer: the Pythae model whose loss it is.
        bound: what it is said to estimate.
        k: samples of one estimate.
        shape: how the samples stand in Pythae's tensors, between batch and event; their product is what is drawn.
    """

    needs = NEEDS

    def __init__(self, peer: Any, bound: Bound, k: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.peer, self.bound, self.k, self.shape = peer, bound, k, shape

    @property
    def evaluations(self) -> int:
        """As many as there are samples."""
        return torch.Size(self.shape).numel()

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``: less the loss, both."""
        (loss,) = losses(self.peer.loss_function, given(model, batch, rng, self.evaluations), self.shape, 1)
        return Estimate(-loss.detach(), -loss)


def losses(function: Callable[..., Any], handed: Given, shape: tuple[int, ...], count: int) -> tuple[Tensor, ...]:
    """The first ``count`` outputs of a loss for each datum, ``[B]`` each."""

    def one(recon_x: Tensor, x: Tensor, *normal: Tensor) -> tuple[Tensor, ...]:
        samples = [t.reshape(1, *shape, t.shape[-1]) for t in (recon_x, *normal)]
        found: tuple[Tensor, ...] = tuple(function(samples[0], x[None], *samples[1:])[:count])
        return found

    found: tuple[Tensor, ...] = vmap(one)(*handed)
    return found
