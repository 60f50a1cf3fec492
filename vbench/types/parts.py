"""The five parts that third parties write, and what encoder, decoder and prior return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from vbench.rng import Rng
from vbench.types.estimands import Bound, Objective, Parts, Target
from vbench.types.values import Batch, Draw, Estimate, Space

__all__ = [
    "Dataset",
    "Decoder",
    "Density",
    "Encoder",
    "Estimator",
    "Likelihood",
    "Natural",
    "Posterior",
    "Prior",
    "Refittable",
]


@runtime_checkable
class Posterior(Protocol):
    """q(z | x) for a minibatch."""

    def draw(self, rng: Rng, k: int) -> Draw:
        """Draw k samples for each datum: z ``[K, B, *Z]``."""
        ...


@runtime_checkable
class Density(Posterior, Protocol):
    """A posterior or prior whose density can be evaluated.

    A prior's may have ``estimated = True``: its ``log_prob`` is the logarithm of an estimate, and nothing summed of it
    counts as exact.
    """

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density, ``[K, B, *Z] -> [K, B]``, nats."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """p(x | z) for the samples ``[K, B, *Z]`` that it was made from."""

    @property
    def mean(self) -> Tensor:
        """E[x | z], ``[K, B, *X]``; where there is no closed form it raises :class:`Incompatible`, which says so."""
        ...

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log likelihood of ``x [B, *X]`` (observed entries of ``mask`` only) -> ``[K, B]``, nats."""
        ...

    def sample(self, rng: Rng) -> Tensor:
        """One draw of x for each z, ``[K, B, *X]``."""
        ...


class Encoder(nn.Module):
    """Makes the posterior of a minibatch. ``z`` is the latent space that decoder and prior are built for.

    One that does not define ``forward`` has no posterior: it only says which latents are to be generated from.
    """

    z: Space
    offers: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    coupled: bool = False  # True where data of one batch interact (batch statistics, shared draws)

    def forward(self, batch: Batch, model: Any) -> Posterior:
        """Return q(z | x) for ``batch``; siblings are reached through ``model``, never held."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(batch, model)")


@runtime_checkable
class Refittable(Protocol):
    """An encoder with parameters of its own for each datum of the training set, indexed by ``batch.index``.

    Before other data are measured, what ``refit(n)`` gives is fitted to them by the estimator's gradient, decoder and
    prior frozen, in ``refit_steps`` steps of Adam from the rate ``refit_lr`` down to zero. Such an encoder does not
    offer AMORTIZED.
    """

    refit_steps: int
    refit_lr: float

    def refit(self, n: int) -> Encoder:
        """A new encoder for n other data, of the same kind, on the same device."""
        ...


@runtime_checkable
class Natural(Protocol):
    r"""An encoder whose parameters are those of each datum's posterior, for ``train: {optimizer: natural-gradient}``.

    .. math:: t_i \leftarrow t_i + \rho\, F(t_i)^{-1} \nabla_{t_i} L_i

    for every datum i of a batch: L its bound, F the Fisher information of its posterior. The other parts go on by Adam.

    Attributes:
        natural_step: rho. Where the model is conjugate, 1 goes all the way once the scales are right.

    Source: Amari (1998), Natural Gradient Works Efficiently in Learning, Neural Computation 10(2),
    doi:10.1162/089976698300017746; Hoffman, Blei, Wang & Paisley (2013), Stochastic Variational Inference,
    arXiv:1206.7051.
    """

    natural_step: float

    def fisher(self) -> Mapping[nn.Parameter, Tensor]:
        """Of each parameter, as it now is: the diagonal of F in its entries, shaped as it is; F has no more."""
        ...


class Decoder(nn.Module):
    """Makes the likelihood of data given latents."""

    offers: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    coupled: bool = False

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Likelihood:
        """Return p(x | z) for ``z [K, B, *Z]``; ``batch`` is None when data are being generated."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(z, batch, model)")


class Prior(nn.Module):
    """Makes the density of latents."""

    offers: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    coupled: bool = False

    def forward(self, batch: Batch | None, model: Any) -> Density:
        """Return p(z); ``batch`` is None for ancestral sampling, when draws are ``[K, 1, *Z]``."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(batch, model)")


class Estimator(nn.Module):
    """A gradient estimator: anything with these four names and a forward works, this base class only saves typing.

    Whatever adapts (baseline, critic, temperature) is a Parameter moved through the surrogate, its loss detached
    from the model; ``lr`` is the learning rate of those parameters (None: the model's).
    """

    k: int = 1
    needs: frozenset[str] = frozenset()
    unbiased: bool = True
    bound: Bound | Objective | None = None  # what it claims to estimate
    target: Target | Parts | None = None  # what its gradient estimates instead, where that is the gradient of no bound
    coupled: bool = False
    lr: float | None = None

    @property
    def evaluations(self) -> int:
        """Its own decoder evaluations per datum and step; what an encoder asks on top is counted, not declared."""
        return self.k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Return value and surrogate for ``batch``; all randomness comes from ``rng``."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(model, batch, rng)")


@runtime_checkable
class Dataset(Protocol):
    """Data in memory, bytes where the source is bytes (then intensity / 255 is a probability of one).

    Optional besides: ``labels`` and ``masks``, mappings of split to tensor.
    """

    @property
    def train(self) -> Tensor:
        """Training data ``[n, *X]``."""
        ...

    @property
    def valid(self) -> Tensor:
        """Validation data; may be empty."""
        ...

    @property
    def test(self) -> Tensor:
        """Test data; may be empty."""
        ...

    @property
    def x(self) -> Space:
        """What the parts see, after binarisation."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the decompressed source and of how it is split."""
        ...

    @property
    def binarization(self) -> str:
        """How bytes become what parts see: see :mod:`vbench.grey`; ``none`` where they are numbers as they are."""
        ...
