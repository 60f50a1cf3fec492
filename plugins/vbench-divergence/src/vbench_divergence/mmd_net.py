"""MMD nets: a generator trained to match the data by MMD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from torch import Tensor

from vbench import Atoms, Batch, Estimate, Estimator, Rng, Trait
from vbench_divergence.draws import prior_draws
from vbench_divergence.mmd import Kernel, between_atoms, mmd2

__all__ = ["Discrepancy", "MMDNet"]


@dataclass(frozen=True)
class Discrepancy:
    r"""Minus :math:`\mathrm{MMD}^2` between the data of a batch and what the prior generates.

    Source: Dziugaite, Roy & Ghahramani (2015), Training Generative Neural Networks via Maximum Mean Discrepancy
    Optimization, arXiv:1505.03906.
    """

    kernel: Kernel
    width: float
    linear: bool = True
    kind: Literal["none"] = "none"

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """``[B]``, the same for all: each datum is one point, each point of the prior what is generated from it."""
        data = Atoms(batch.x[None], batch.x.new_zeros(1, 1), batch.x.new_zeros(1, 1))
        made = p._replace(z=model.likelihood(None, p.z).mean)
        return -between_atoms(data, made, self.kernel, self.width).expand(len(batch.x))


class MMDNet(Estimator):
    r"""Generator by MMD between a batch of data and as many draws of the prior through the decoder.

    .. math:: -\widehat{\mathrm{MMD}}^2(\{x_b\}, \{E[x | z'_b]\}), \qquad z'_b \sim p(z)

    The unbiased U-statistic, averaged over K generated sets; data interact, and a value is of the batch, not in nats.
    No encoder takes part (``none`` is made for this): another one stays as it began. Unbiased for decoder and prior
    where draws of the prior carry their gradient (normal priors).

    Source: Dziugaite, Roy & Ghahramani (2015), Training Generative Neural Networks via Maximum Mean Discrepancy
    Optimization, arXiv:1505.03906.
    """

    needs = frozenset({Trait.latent("real"), Trait.MEAN})
    coupled = True

    def __init__(
        self,
        kernel: Annotated[Kernel, "Gaussian, or inverse multiquadratic"] = "rbf",
        width: Annotated[float, Gt(0), "of the kernel, in the deviation of a pixel"] = 0.5,
        k: Annotated[int, Ge(1), "generated sets, averaged"] = 1,
    ) -> None:
        super().__init__()
        self.kernel, self.width, self.k = kernel, width, k
        self.bound = Discrepancy(kernel, width)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``, the same for all; surrogate ``[]``."""
        z = prior_draws(model, rng, self.k, len(batch.x))
        made = model.likelihood(None, z).mean.flatten(2)
        data = batch.x.flatten(1).expand(self.k, -1, -1)
        value = -mmd2(data, made, self.kernel, self.width).mean()
        return Estimate(value.detach().expand(len(batch.x)), value)
