"""ReinMax: straight-through to second order."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

from vbench import Space
from vbench_discrete.straight_through import StraightThrough

__all__ = ["ReinMax"]


class ReinMax(StraightThrough):
    r"""ELBO with gradients sent through the draw by Heun's rule. Biased.

    .. math:: \nabla_l: \; 2 J\big(\tfrac12 (b + \mu_\tau)\big) f'(b) - \tfrac12 J(\mu) f'(b), \qquad
       J(\mu) = \mathrm{diag}(\mu) - \mu \mu^\top

    :math:`\mu_\tau` is the mean at logits l / tau; for a binary latent at tau = 1 the weight of the slope is
    :math:`\tfrac12 |b - \mu|`. Exact at tau = 1 where f is quadratic in each variable (straight-through: linear).
    Value, decoder and prior are exact.

    Source: Liu, Dong, Liu, Yu & Gao (2023), Bridging Discrete and Backpropagation: Straight-Through and Beyond,
    arXiv:2304.08612.
    """

    def __init__(
        self,
        z: Space,
        k: Annotated[int, Ge(1), "samples per datum, averaged"] = 1,
        temperature: Annotated[float, Gt(0), "tau; 1 is second-order accurate, larger ones are smoother"] = 1.0,
    ) -> None:
        super().__init__(z, k)
        self.temperature = temperature

    def backward(self, b: Tensor, slope: Tensor, logits: Tensor) -> Tensor:
        """The gradient that reaches the logits, ``[K, B, *Z]``, of the slope f'(b) at the draw b."""
        ways = self.relaxation
        tempered, mean = (ways.density(scaled).mean for scaled in (logits / self.temperature, logits))
        return 2 * ways.pull((b + tempered) / 2, slope) - 0.5 * ways.pull(mean, slope)
