"""KL annealing: the rate's weight grows to one as training goes on."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from vbench import ELBO, Batch, Estimate, Estimator, Rng
from vbench_divergence.beta import Beta
from vbench_divergence.rate import KL, needs

__all__ = ["KLAnnealing"]


class KLAnnealing(Estimator):
    r"""ELBO whose rate is phased in, reparameterised.

    .. math:: \frac1K \sum_k \log p(x | z_k) - \beta_t\, \mathrm{KL}(q(z | x) \| p(z))

    The weight rises from zero to one over the first ``warmup`` part of training, and is one after it: at frozen
    checkpoints and in evaluation, where training is over, this is the ELBO, for which it is unbiased; during the
    warm-up it is unbiased for the weighted objective.

    Source: Bowman, Vilnis, Vinyals, Dai, Jozefowicz & Bengio (2016), Generating Sentences from a Continuous Space,
    arXiv:1511.06349.
    """

    bound = ELBO()

    def __init__(
        self,
        warmup: Annotated[float, Gt(0), Le(1), "part of training in which the weight rises"] = 0.5,
        schedule: Annotated[Literal["linear", "sigmoid"], "how it rises"] = "linear",
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
        kl: Annotated[KL, "estimate the rate by the same draws, or in closed form"] = "sampled",
    ) -> None:
        super().__init__()
        self.warmup, self.schedule, self.k, self.kl = warmup, schedule, k, kl
        self.needs = needs(kl)

    def weight(self, progress: float) -> float:
        """The rate's weight, 0 to 1; the sigmoid is stretched to reach both."""
        done = min(1.0, progress / self.warmup)
        if self.schedule == "linear":
            return done
        ends = math.tanh(3)
        return 0.5 + 0.5 * math.tanh(6 * done - 3) / ends

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``: here they are the same number."""
        estimate: Estimate = Beta(self.weight(batch.progress), self.k, self.kl)(model, batch, rng)
        return estimate
