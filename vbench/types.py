"""The whole contract on one page: what flows between parts, and what each part must be.

Letters everywhere: K samples per datum, B batch, D latent, X data, Z latent event. Samples lead: ``[K, B, *Z]``.
Everything a third party writes is one of five parts (encoder, decoder, prior, estimator, dataset).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from vbench.rng import Rng

__all__ = [
    "Atoms",
    "Batch",
    "Bound",
    "Dataset",
    "Decoder",
    "Density",
    "Draw",
    "Encoder",
    "Estimate",
    "Estimator",
    "Incompatible",
    "Likelihood",
    "Objective",
    "Parts",
    "Posterior",
    "Prior",
    "Refittable",
    "Space",
    "Support",
    "Target",
    "Trait",
]

Support = Literal["real", "binary", "categorical", "unit", "simplex", "sphere"]


@dataclass(frozen=True)
class Space:
    """Shape and support of one datum or one latent.

    Attributes:
        shape: event shape without K and B. A categorical latent is one-hot: ``(D, C)`` is D variables of C classes.
        support: ``real``, ``binary`` {0, 1}, ``categorical`` (one-hot in the last dimension), ``unit`` [0, 1],
            ``simplex`` (weights that sum to one; densities are by the volume of all of them but the last) or ``sphere``
            (vectors of length one; densities are by the sphere's own area).
        layers: how a stacked latent of a hierarchy is cut along its first dimension; empty when it is not.
    """

    shape: tuple[int, ...]
    support: Support = "real"
    layers: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of scalars in one event."""
        size = 1
        for length in self.shape:
            size *= length
        return size


class Trait:
    """Abilities that parts offer and need, plain strings: a third party adds one by writing its own.

    Compatibility is set subtraction, ``needs - offers``. The host adds the traits of ``latent`` and ``data``
    supports by itself, so a part that works on one kind of latent says, say, ``needs = {Trait.latent("binary")}``.
    """

    POSTERIOR: Final = "posterior"  # there is a q(z | x); the host adds it to every encoder that defines forward
    PATHWISE: Final = "pathwise"  # draws are differentiable in the posterior's parameters
    DENSITY: Final = "density"  # the posterior has log_prob(z)
    NORMALIZED: Final = "normalized"  # and that density integrates to one
    LOGITS: Final = "logits"  # the posterior has `logits`
    LOC_SCALE: Final = "loc-scale"  # the posterior is a diagonal normal with `loc` and `scale`
    ENUMERABLE: Final = "enumerable"  # finitely many latent states
    RELAXABLE: Final = "relaxable"  # has a continuous relaxation
    AMORTIZED: Final = "amortized"  # works on data that it was not trained on
    STEPS: Final = "steps"  # the prior unrolls in time: start, transition, advance (see vbench.steps)
    STEP_PROPOSAL: Final = "step-proposal"  # the encoder proposes step by step
    STEP_LIKELIHOOD: Final = "step-likelihood"  # the decoder emits step by step
    KL: Final = "kl"  # the posterior knows kl(prior) -> [B] for a prior of its own family
    FACTORIZED_PRIOR: Final = "factorized-prior"  # the prior is one factorised density: closed-form KL
    INDEPENDENT_PRIOR: Final = "independent-prior"  # the prior asks no posterior; the host adds it to such priors
    PROPER_WEIGHT: Final = "proper-weight"  # draws come with log_q that makes p(x, z) / q a proper weight
    IMAGE: Final = "image"  # data are [height, width]

    @staticmethod
    def latent(support: Support) -> str:
        """The trait "latents have this support", offered by the host for ``encoder.z``."""
        return f"{support}-latent"

    @staticmethod
    def data(support: Support) -> str:
        """The trait "data have this support", offered by the host for ``dataset.x``."""
        return f"{support}-data"


class Batch(NamedTuple):
    """A minibatch as every part sees it."""

    x: Tensor  # [B, *X]
    index: Tensor  # type: ignore[assignment]  # [B] identity of each datum (per-datum posteriors)
    progress: float = 1.0  # 0 at the start of training, 1 at its end, at frozen checkpoints and in evaluation
    mask: Tensor | None = None  # [B, *X] observed; lengths of sequences, missing pixels
    key: Tensor | None = None  # for parts that draw inside forward: live and frozen passes agree


class Draw(NamedTuple):
    """Samples of a posterior."""

    z: Tensor  # [K, B, *Z]
    log_q: Tensor | None  # [K, B] any denominator that makes p(x, z) / q a proper weight; None where there is none
    info: Mapping[str, Tensor] = {}


class Estimate(NamedTuple):
    """What an estimator returns for one minibatch."""

    value: Tensor  # [B] the objective, nats per datum, no gradient
    surrogate: Tensor  # [B], or [] where data interact; ascended: its autograd gradient *is* the estimate
    info: Mapping[str, Tensor] = {}


class Incompatible(Exception):  # noqa: N818 - an outcome with a reason, not a fault
    """These components do not go together; the message is the reason. The cell is skipped, not failed.

    The host raises it where needs are not offered; a factory may, for what no trait tells (too many latent states).
    """


@runtime_checkable
class Posterior(Protocol):
    """q(z | x) for a minibatch."""

    def draw(self, rng: Rng, k: int) -> Draw:
        """Draw k samples for each datum: z ``[K, B, *Z]``."""
        ...


@runtime_checkable
class Density(Posterior, Protocol):
    """A posterior or prior whose density can be evaluated."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density, ``[K, B, *Z] -> [K, B]``, nats."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """p(x | z) for the samples ``[K, B, *Z]`` that it was made from."""

    @property
    def mean(self) -> Tensor:
        """E[x | z], ``[K, B, *X]``."""
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


class Bound(Protocol):
    """A function of log weights, ``[K, B] -> [B]``, nats per datum."""

    @property
    def kind(self) -> Literal["lower", "upper", "none"]:
        """On which side of log p(x) its expectation lies."""
        ...

    @property
    def linear(self) -> bool:
        """Whether it is a mean of log weights."""
        ...

    @property
    def smooth(self) -> bool:
        """Whether it is twice differentiable in the log weights."""
        ...

    def __call__(self, log_w: Tensor) -> Tensor:
        """``[K, B] -> [B]``."""
        ...


class Atoms(NamedTuple):
    """A distribution of latents as weighted points: E[f(z)] is the sum of exp(log_mass) f(z), also when differentiated.

    The discrete latents' states, or nodes of a quadrature that move with the distribution's parameters.
    """

    z: Tensor  # [S, B, *Z], or [S, 1, *Z] where data share them
    log_mass: Tensor  # [S, B] or [S, 1]
    log_prob: Tensor  # [S, B] or [S, 1] log density at the points, nats


@runtime_checkable
class Objective(Protocol):
    """What an estimator ascends where that is no function of log weights (beta-VAE, MMD): an expectation.

    An estimator declares it as its ``bound``. The judge asks for ``expectation`` at distributions that it knows
    exactly; a ValueError says where it has no exact value. ``linear`` is True where K only averages.
    """

    @property
    def kind(self) -> Literal["lower", "upper", "none"]:
        """On which side of log p(x) it lies."""
        ...

    @property
    def linear(self) -> bool:
        """Whether it is the same for every K."""
        ...

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """``[B]``, nats, under the posterior ``q`` and the prior ``p``; its mean over the batch is ascended."""
        ...


class Target(Protocol):
    """What an estimator's gradient estimates where it is that of no bound (reweighted wake-sleep).

    A field of log p(x, z) and log q(z | x) at draws of q: its gradient with the draws held fixed, averaged over
    them, is the target. It is ascended, as a surrogate is, and indifferent to the order of its K draws.
    """

    def __call__(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """``[K, B], [K, B] -> [B]``, nats; whatever only weighs is detached inside."""
        ...


@dataclass(frozen=True)
class Parts:
    """What an estimator's gradient estimates where each part of the model ascends a bound of its own, at its own K.

    Attributes:
        encoder, decoder, prior: the bound or objective of that part's gradient, and its K.
    """

    encoder: tuple[Bound | Objective, int]
    decoder: tuple[Bound | Objective, int]
    prior: tuple[Bound | Objective, int]


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
        """Decoder evaluations per datum and step."""
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
        """``dynamic``, ``static``, ``threshold`` or ``none``."""
        ...
