"""The bound of a diffusion in continuous time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import Atoms, Batch, Estimate, Estimator, Rng
from vbench_hierarchy.diffusion import ends, misses
from vbench_hierarchy.schedule import DENOISER, DIFFUSED
from vbench_hierarchy.timesteps import Timesteps

__all__ = ["ContinuousTime", "VDMContinuous"]


@dataclass(frozen=True)
class ContinuousTime:
    """The limit of infinitely many steps of a diffusion with the same net and the same ends.

    On neither side of the log p(x) of a model of T steps, which is another model.

    Source: Kingma, Salimans, Poole & Ho (2021), Variational Diffusion Models, arXiv:2107.00630, section 5.
    """

    kind: Literal["none"] = "none"
    linear: bool = True

    def expectation(self, model: Any, batch: Batch, q: Atoms, p: Atoms) -> Tensor:
        """Not known from points of the layers that there are.

        Raises:
            ValueError: always.
        """
        raise ValueError("continuous time is no function of so many layers")


class VDMContinuous(Estimator):
    r"""The bound in continuous time, at one noise level for each draw.

    .. math:: \log p(x | z_0) - \mathrm{KL}(q(z_1 | x) \| p(z_1)) - \frac12 \int_{\gamma_0}^{\gamma_1}
       E\, \|\epsilon - \hat\epsilon(z_\gamma; \gamma)\|^2\, d\gamma

    The integral is over the noise level itself, so how noise rises between the prior's two ends does not matter: a
    schedule :math:`\gamma(t)` with t even is a density of levels, :math:`dt / d\gamma`, which the integrand is divided
    by, and decides the estimate's variance alone. Here it is piecewise linear, of the estimator's own, even or trained
    to make the second moment least. Of the prior's schedule only the ends are trained, by the bound.

    Source: Kingma, Salimans, Poole & Ho (2021), Variational Diffusion Models, arXiv:2107.00630, sections 5.1 and 5.2.
    """

    needs = frozenset({DIFFUSED, DENOISER})
    bound = ContinuousTime()

    def __init__(
        self,
        k: Annotated[int, Ge(1), "levels looked at for each datum, spread evenly"] = 1,
        schedule: Annotated[Literal["uniform", "learned"], "how noise levels are drawn between the ends"] = "learned",
        pieces: Annotated[int, Ge(1), "pieces of the schedule"] = 20,
    ) -> None:
        super().__init__()
        self.k = k
        self.timesteps = Timesteps(pieces, schedule)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``."""
        gamma = model.prior.schedule()
        low, span = gamma[0], gamma[-1] - gamma[0]
        choice = self.timesteps.draw(rng, self.k, len(batch.x))
        pieces = choice.bins.shape[-1]
        place = choice.bins @ torch.arange(pieces, dtype=span.dtype, device=span.device) + choice.within
        weight = (-choice.log_mass.detach()).exp() / pieces
        terms = 0.5 * span * misses(model, batch, rng, low + span * place / pieces) * weight
        value = ends(model, batch, rng, self.k, low, gamma[-1]) - terms.mean(0)
        return Estimate(value.detach(), value - self.timesteps.loss(terms, choice))
