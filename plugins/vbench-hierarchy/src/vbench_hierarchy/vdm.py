"""The bound of a diffusion of T steps, by one step at a time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge

from vbench import ELBO, Batch, Estimate, Estimator, Rng, Space
from vbench_hierarchy.diffusion import ends, misses
from vbench_hierarchy.schedule import DENOISER, DIFFUSED
from vbench_hierarchy.timesteps import Timesteps

__all__ = ["VDM"]


class VDM(Estimator):
    r"""The ELBO of T + 1 layers, all but one of its KL terms left to chance.

    .. math:: \log p(x | z_0) - \mathrm{KL}(q(z_1 | x) \| p(z_1)) - \frac{1}{2 \pi_i}
       \big(e^{\gamma_i - \gamma_{i-1}} - 1\big) \|\epsilon - \hat\epsilon(z_i; \gamma_i)\|^2, \qquad i \sim \pi

    averaged over K draws. Each KL of a step is known but for an average over its noise, so one step's net stands for
    all of them: unbiased for the ELBO that ``reparam`` takes whole trajectories for. Steps are drawn evenly, or by
    probabilities of the estimator's own that make the second moment least.

    Source: Kingma, Salimans, Poole & Ho (2021), Variational Diffusion Models, arXiv:2107.00630, section 4.
    """

    needs = frozenset({DIFFUSED, DENOISER})
    bound = ELBO()

    def __init__(
        self,
        z: Space,
        k: Annotated[int, Ge(1), "steps looked at for each datum, spread evenly"] = 1,
        sampling: Annotated[Literal["uniform", "learned"], "how steps are drawn"] = "uniform",
    ) -> None:
        super().__init__()
        self.k = k
        self.timesteps = Timesteps(len(z.layers) - 1 if z.layers else 1, sampling)

    def forward(self, model: Any, batch: Batch, rng: Rng) -> Estimate:
        """Value ``[B]`` and surrogate ``[B]``."""
        gamma = model.prior.schedule()
        choice = self.timesteps.draw(rng, self.k, len(batch.x))
        s, t = choice.bins @ gamma[:-1], choice.bins @ gamma[1:]
        terms = 0.5 * torch.expm1(t - s) * misses(model, batch, rng, t) * (-choice.log_mass.detach()).exp()
        value = ends(model, batch, rng, self.k, gamma[0], gamma[-1]) - terms.mean(0)
        return Estimate(value.detach(), value - self.timesteps.loss(terms, choice))
