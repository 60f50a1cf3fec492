"""The density of whole data, by a model that was trained on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import Batch, Draw, Incompatible, Model, Prior, Refittable, Rng, Space, Trait, trained
from vbench.measure.exact import estimated_prior
from vbench.oracles.enumeration import states

__all__ = ["JointPrior", "ModelDensity"]

Proposal = Literal["encoder", "prior"]
_STATES: Final = 256  # latents with no more than these are summed over
_KEY: Final = 0  # of draws, where a batch comes without a key of its own


@dataclass(frozen=True)
class ModelDensity:
    """log p(x) of a model, by sums or by importance samples.

    Attributes:
        joint: the model.
        samples: S, of its latents for each datum.
        proposal: what these are drawn from.
        key: of these draws.
    """

    joint: Model
    samples: int
    proposal: Proposal
    key: int | Tensor

    @property
    def estimated(self) -> bool:
        """Whether ``log_prob`` is an estimate: latents are sampled, or the model's own prior is estimated.

        True too where the decoder looks at no latents and what ``proposal="prior"`` gives is exact: nobody tells.
        """
        return _states(self.joint.encoder.z) is None or estimated_prior(self.joint, None)

    def draw(self, rng: Rng, k: int) -> Draw:
        """k ancestral samples ``[K, 1, *X]``; what they cost in nats is not told."""
        h = self.joint.prior_density(None).draw(rng, k).z
        return Draw(self.joint.likelihood(None, h).sample(rng), None)

    def log_prob(self, z: Tensor) -> Tensor:
        """``[K, B, *X] -> [K, B]``, nats: exact, or the logarithm of an unbiased estimate of p(x)."""
        x = z.flatten(0, 1)
        batch = Batch(x, torch.arange(len(x), device=x.device), key=torch.as_tensor(self.key))
        return self._log_weights(batch, len(x)).logsumexp(0).unflatten(0, z.shape[:2])

    def _log_weights(self, batch: Batch, n: int) -> Tensor:
        """What sums to p(x), ``[S, N]``."""
        every = _states(self.joint.encoder.z)
        if every is not None:
            h = every.to(batch.x)[:, None]
            return self.joint.log_joint(batch, h.expand(-1, n, *h.shape[2:]))
        rng, share = Rng(self.key, batch.x.device), math.log(self.samples)
        if self.proposal == "prior":
            h = self.joint.prior_density(None).draw(rng, self.samples).z
            return self.joint.log_likelihood(batch, h.expand(-1, n, *h.shape[2:])) - share
        draw = self.joint.posterior(batch).draw(rng, self.samples)
        return self.joint.log_joint(batch, draw.z) - draw.log_q - share  # type: ignore[operator]


def _states(z: Space) -> Tensor | None:
    try:
        return states(z, _STATES)
    except ValueError:
        return None


class JointPrior(Prior):
    r"""p(z) of a whole datum z is that of a finished cell's model, held as it is.

    .. math:: \hat p(z) = \frac1S \sum_s \frac{p(z | h_s)\, p(h_s)}{r(h_s | z)}, \qquad h_s \sim r

    h are the latents of that model, r its encoder (or its prior: exact for a decoder that does not look at h, such as
    ``pixelcnn[conditional=false]``). Where h has few states p(z) is their sum and exact. Else
    :math:`E \log \hat p(z) \le \log p(z)`, and with it every ELBO stays one; draws of h are a function of the batch's
    key, so a gradient is that of the ELBO with h drawn too.

    Which model it is, its study and its cell say; its weights must have been kept (``vbench run --keep weights``).

    Source: Rezende, Mohamed & Wierstra (2014), Stochastic Backpropagation and Approximate Inference in Deep Generative
    Models, arXiv:1401.4082; Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519.
    """

    def __init__(
        self,
        z: Space,
        study: Annotated[str, "folder of the study that has the model, results/NAME"],
        cell: Annotated[str, "its key or the first digits of it, or words that it alone has"],
        samples: Annotated[int, Ge(1), "S, of its latents for each value of z"] = 8,
        proposal: Annotated[Proposal, "what these are drawn from"] = "encoder",
    ) -> None:
        super().__init__()
        try:
            built = trained(study, cell)
        except (FileNotFoundError, ValueError) as error:
            raise Incompatible(f"joint: {error}") from None
        x = built.data.x
        if x.shape != z.shape or (x.support == "binary") != (z.support == "binary"):
            raise Incompatible(f"the model is of {x.support} {list(x.shape)}, the latent {z.support} {list(z.shape)}")
        proper = Trait.AMORTIZED in built.offers and Trait.PROPER_WEIGHT in built.offers
        if proposal == "encoder" and (isinstance(built.model.encoder, Refittable) or not proper):
            raise Incompatible("the model's encoder proposes nothing for other data: take proposal=prior")
        self.joint = built.model.requires_grad_(False)
        self.samples, self.proposal = samples, proposal

    def train(self, mode: bool = True) -> JointPrior:
        """The model that is held stays in evaluation mode: it is a density, and is not trained."""
        super().train(mode)
        self.joint.eval()
        return self

    def forward(self, batch: Batch | None, model: Any) -> ModelDensity:
        """p(z)."""
        key = _KEY if batch is None or batch.key is None else batch.key
        return ModelDensity(self.joint, self.samples, self.proposal, key)
