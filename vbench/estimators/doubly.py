"""Doubly reparameterised gradients of any twice differentiable bound."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vjp, vmap

from vbench.model import frozen
from vbench.rng import Rng
from vbench.types import Batch, Bound, Estimate, Estimator, Trait

__all__ = ["DoublyReparameterized"]


class DoublyReparameterized(Estimator):
    r"""Only the path through z reaches q's parameters, with weight :math:`h_k = \partial_k l - \partial_k^2 l`.

    For :math:`L = E[l(\log w_1, \ldots, \log w_K)]` the score term that hides in :math:`\partial \log
    q(z_k)/\partial\phi` is itself reparameterised, which leaves

    .. math:: \nabla_\phi L = E \sum_k h_k \frac{\partial \log w_k}{\partial z_k} \frac{\partial z_k}{\partial \phi},

    the diagonal of the Hessian alone, which costs K^2 where the bound does not tell it (``curvature``). The ELBO gives
    STL, IWAE gives DReG (:math:`h_k = \tilde w_k^2`). Decoder, prior and an encoder's direct part in p keep the bound's
    plain gradient :math:`\sum_k \partial_k l\, \nabla \log p(x, z_k)`. Unbiased for the bound where the draws are
    independent. It need not reduce variance: far from the optimum DReG can be several times worse than IWAE's plain
    gradient.

    Args:
        bound: a smooth function of the log weights.
        k: samples per datum.

    Source: Tucker, Lawson, Gu & Maddison (2019), Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives,
    arXiv:1810.04152; Bauer & Mnih (2021), Generalized Doubly Reparameterized Gradient Estimators, arXiv:2101.11046.
    """

    needs = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED})

    def __init__(self, bound: Bound, k: int) -> None:
        super().__init__()
        if not bound.smooth:
            raise ValueError(f"{bound} is not twice differentiable: it has no doubly reparameterised gradient")
        self.bound, self.k = bound, k

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]``; surrogate ``[B]``, whose value means nothing but its gradient."""
        z = model.posterior(batch).draw(rng, self.k).z
        q: Any = frozen(model).posterior(batch)
        log_w, pull = vjp(lambda z: model.log_joint(batch, z) - q.log_prob(z), z.detach())  # type: ignore[misc]
        slope, path = _weights(self.bound, log_w.detach())
        (direction,) = pull(path)
        direct = (slope * log_w).sum(0)
        through_z = (direction.detach() * z).flatten(2).sum((0, 2))
        return Estimate(self.bound(log_w).detach(), direct + through_z)  # type: ignore[misc,operator]


def _weights(bound: Any, log_w: Tensor) -> tuple[Tensor, Tensor]:
    """First derivatives ``[K, B]`` and path weights h ``[K, B]`` of the bound at ``log_w [K, B]``."""
    slope = grad(lambda w: bound(w).sum())
    first = slope(log_w)
    if known := getattr(bound, "curvature", None):
        return first, first - known(log_w)
    basis = torch.eye(log_w.shape[0], dtype=log_w.dtype, device=log_w.device)[..., None]

    # data do not interact, so the gradient of one row of slopes is that row of the Hessian for every datum;
    # not jvp: torch 2.13 warns of deprecated scripting when forward mode is first used
    def own_curvature(row: Tensor) -> Tensor:
        curvature: Tensor = row * grad(lambda w: (row * slope(w)).sum())(log_w)
        return curvature.sum(0)

    return first, first - vmap(own_curvature)(basis)
