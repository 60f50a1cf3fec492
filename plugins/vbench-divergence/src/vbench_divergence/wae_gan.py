"""WAE-GAN: reconstruct, and match the aggregate posterior to the prior by an adversary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from vbench import Atoms, Batch, Estimate, Estimator, Rng, Space, Trait, frozen
from vbench_divergence.cost import Cost, fit
from vbench_divergence.draws import prior_draws

__all__ = ["WAEGAN", "Adversarial"]


@dataclass(frozen=True)
class Adversarial:
    r"""What the model ascends while the discriminator D stands, :math:`E_q[-c(x, G(z)) + \lambda \log D(z)]`.

    Source: Tolstikhin, Bousquet, Gelly & Schoelkopf (2018), Wasserstein Auto-Encoders, arXiv:1711.01558.
    """

    weight: float
    cost: Cost
    discriminator: nn.Module = field(repr=False, compare=False)
    linear: bool = True
    kind: Literal["none"] = "none"

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """``[B]``."""
        likeness = functional.logsigmoid(self.discriminator(q.z.flatten(2))[..., 0])
        return (q.log_mass.exp() * (fit(self.cost, model, batch, q.z) + self.weight * likeness)).sum(0)


class WAEGAN(Estimator):
    r"""Wasserstein autoencoder with an adversary in latent space; the value is minus the model's loss.

    .. math:: \text{model}: \min \frac1K \sum_k c(x, G(z_k)) - \lambda \log D(z_k), \qquad
       D: \max \frac1K \sum_k \log D(z'_k) + \log (1 - D(z_k)), \quad z_k \sim q(z | x), \; z'_k \sim p(z)

    The discriminator is the estimator's own, moved through the surrogate with its own learning rate, at draws detached
    from the model. Given it, data are independent and the gradient is unbiased; as it learns, the objective moves, so
    values compare within a run only. A learned prior is not trained. G(z) is the likelihood's mean and c the squared
    error; ``cost: likelihood`` takes -log p(x | z) instead, nats.

    Source: Tolstikhin, Bousquet, Gelly & Schoelkopf (2018), Wasserstein Auto-Encoders, arXiv:1711.01558, algorithm 1.
    """

    needs = frozenset({Trait.PATHWISE, Trait.MEAN})

    def __init__(
        self,
        z: Space,
        weight: Annotated[float, Ge(0), "lambda, of the adversary"] = 10.0,
        cost: Annotated[Cost, "squared error of the likelihood's mean, or minus the log likelihood"] = "squared",
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the discriminator's hidden layers"] = (64, 64),
        lr: Annotated[float, Gt(0), "learning rate of the discriminator"] = 1e-3,
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
    ) -> None:
        super().__init__()
        self.weight, self.cost, self.lr, self.k = weight, cost, lr, k
        layers: list[nn.Module] = []
        for left, right in pairwise([z.size, *hidden, 1]):
            layers += [nn.Linear(left, right), nn.SiLU()]
        self.discriminator = nn.Sequential(*layers[:-1])
        self.bound = Adversarial(weight, cost, self.discriminator)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, the discriminator's own gain in it."""
        z = model.posterior(batch).draw(rng, self.k).z
        judged = frozen(self.discriminator)(z.flatten(2))[..., 0]
        value = (fit(self.cost, model, batch, z) + self.weight * functional.logsigmoid(judged)).mean(0)
        prior = prior_draws(model, rng, self.k, len(batch.x)).detach()
        real, false = (self.discriminator(t.flatten(2))[..., 0] for t in (prior, z.detach()))
        gain = (functional.logsigmoid(real) + functional.logsigmoid(-false)).mean(0)
        return Estimate(value.detach(), value + gain)
