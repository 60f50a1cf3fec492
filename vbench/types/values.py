"""What flows between parts: spaces, traits, minibatches, draws, estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from torch import Tensor

__all__ = ["Batch", "Draw", "Estimate", "Incompatible", "Space", "Support", "Trait"]

Support = Literal["real", "binary", "categorical", "unit", "levels", "simplex", "sphere"]


@dataclass(frozen=True)
class Space:
    """Shape and support of one datum or one latent.

    Attributes:
        shape: event shape without K and B. A categorical latent is one-hot: ``(D, C)`` is D variables of C classes.
        support: ``real``, ``binary`` {0, 1}, ``categorical`` (one-hot in the last dimension), ``unit`` [0, 1],
            ``levels`` (so many values, evenly spaced from 0 to 1), ``simplex`` (weights that sum to one; densities are
            by the volume of all of them but the last) or ``sphere`` (vectors of length one; densities are by the
            sphere's own area).
        layers: how a stacked latent of a hierarchy is cut along its first dimension, the layer next to the data first;
            empty when it is not. What lies above that layer reaches the data through it alone: decoders see no more.
        levels: how many values grey data have, or had before they were dequantised; 0 where nobody counted.
    """

    shape: tuple[int, ...]
    support: Support = "real"
    layers: tuple[int, ...] = ()
    levels: int = 0

    @property
    def size(self) -> int:
        """Number of scalars in one event."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def bottom(self) -> Space:
        """What a decoder sees of it: the layer next to the data, or all of what is no hierarchy."""
        return replace(self, shape=(self.layers[0], *self.shape[1:]), layers=()) if self.layers else self


class Trait:
    """Abilities that parts offer and need, plain strings: a third party adds one by writing its own.

    Compatibility is set subtraction, ``needs - offers``. The host adds the traits of ``latent`` and ``data``
    supports by itself, so a part that works on one kind of latent says, say, ``needs = {Trait.latent("binary")}``; it
    adds IMAGE, COMPLETE and MISSING too, as the data are.
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
    AUTOREGRESSIVE: Final = "autoregressive"  # the decoder takes each entry given those before it
    MEAN: Final = "mean"  # the likelihood knows E[x | z]; the host adds it to decoders that are not autoregressive
    NATURAL: Final = "natural"  # the encoder tells its Fisher information; the host adds it to those that are `Natural`
    PROPER_WEIGHT: Final = "proper-weight"  # draws come with log_q that makes p(x, z) / q a proper weight
    LAYERS: Final = "layers"  # the latent is a hierarchy, cut by `Space.layers`; the host adds it
    IMAGE: Final = "image"  # data are [height, width]
    COMPLETE: Final = "complete"  # every entry of every datum is observed
    MISSING: Final = "missing"  # some entries are not: data come with masks

    @staticmethod
    def latent(support: Support) -> str:
        """The trait "latents have this support", offered by the host for ``encoder.z``."""
        return f"{support}-latent"

    @staticmethod
    def trained(kind: str) -> str:
        """The trait "this part has parameters to train", offered by the host for each that has."""
        return f"trained-{kind}"

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
