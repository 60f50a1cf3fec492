"""PIWAE: the tight bound for the model, the looser one with its better signal for the encoder."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge

from vbench import IWAE, Batch, Estimate, Estimator, Parts, Rng, Trait, moving
from vbench_divergence.miwae import averaged

__all__ = ["PIWAE"]


class PIWAE(Estimator):
    r"""Partially importance-weighted: decoder and prior by all M K samples, the encoder by M groups of K.

    .. math:: \nabla_\theta \log \frac{1}{MK} \sum_{m,k} w_{m,k}, \qquad
       \nabla_\phi \frac1M \sum_m \log \frac1K \sum_k w_{m,k}

    Unbiased for the M K-sample bound in decoder and prior, for the K-sample bound in the encoder: the gradient of no
    one bound, so each part has its own in ``target``. The value is the encoder's. One set of draws serves both, but the
    decoder is evaluated once for each gradient: 2 M K evaluations.

    Source: Rainforth, Kosiorek, Le, Maddison, Igl, Wood & Teh (2018), Tighter Variational Bounds Are Not Necessarily
    Better, arXiv:1802.04537.
    """

    needs = frozenset({Trait.PATHWISE, Trait.PROPER_WEIGHT})
    bound = IWAE()

    def __init__(
        self,
        m: Annotated[int, Ge(1), "groups of samples"] = 2,
        k: Annotated[int, Ge(1), "importance samples of each"] = 2,
    ) -> None:
        super().__init__()
        self.m, self.k = m, k
        whole = (IWAE(), m * k)
        self.target = Parts(encoder=(IWAE(), k), decoder=whole, prior=whole)

    @property
    def evaluations(self) -> int:
        """Twice M times K."""
        return 2 * self.m * self.k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, the sum of two bounds."""
        inference, generation = moving(model, "encoder"), moving(model, "decoder", "prior")
        draw = inference.posterior(batch).draw(rng, self.m * self.k)
        value = averaged(self.bound, inference.log_joint(batch, draw.z) - draw.log_q, self.m)
        whole = self.bound(generation.log_joint(batch, draw.z.detach()) - draw.log_q.detach())
        return Estimate(value.detach(), value + whole)
